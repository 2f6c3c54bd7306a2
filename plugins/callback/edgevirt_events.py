"""Tells a parent program what a playbook does, one JSON line for each event.

The lines go to the file named by EDGEVIRT_EVENTS (a FIFO of the installer);
without it the plugin does nothing. The shapes are read by src/ansible.rs.
"""

from __future__ import annotations

import json
import os

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: edgevirt_events
type: notification
short_description: JSON lines of a playbook's progress for the installer
description:
  - Writes one JSON object a line for start, task, result and stats.
requirements:
  - The environment variable EDGEVIRT_EVENTS names the file to write to.
"""


class CallbackModule(CallbackBase):
    """Writes events; never lets a reader that went away stop the play."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "edgevirt_events"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        path = os.environ.get("EDGEVIRT_EVENTS")
        self._stream = open(path, "w", encoding="utf-8") if path else None
        if self._stream is None:
            self.disabled = True

    def _write(self, **event):
        try:
            self._stream.write(json.dumps(event) + "\n")
            self._stream.flush()
        except OSError:
            self.disabled = True

    def v2_playbook_on_play_start(self, play):
        tasks = sum(len(block.get_tasks()) for block in play.compile())
        self._write(event="start", tasks=tasks)

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._write(event="task", name=task.get_name())

    def v2_playbook_on_handler_task_start(self, task):
        self._write(event="task", name=task.get_name())

    def _result(self, result, status):
        message = ""
        if status in ("failed", "unreachable"):
            data = result.result if hasattr(result, "result") else result._result
            message = str(data.get("msg") or data.get("stderr") or "")
        host = result.host if hasattr(result, "host") else result._host
        task = result.task if hasattr(result, "task") else result._task
        self._write(
            event="result",
            host=host.get_name(),
            task=task.get_name(),
            status=status,
            message=message,
        )

    def v2_runner_on_ok(self, result):
        data = result.result if hasattr(result, "result") else result._result
        self._result(result, "changed" if data.get("changed") else "ok")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._result(result, "ok" if ignore_errors else "failed")

    def v2_runner_on_skipped(self, result):
        self._result(result, "skipped")

    def v2_runner_on_unreachable(self, result):
        self._result(result, "unreachable")

    def v2_playbook_on_stats(self, stats):
        hosts = {}
        for host in sorted(stats.processed):
            summary = stats.summarize(host)
            hosts[host] = {
                "ok": summary["ok"],
                "changed": summary["changed"],
                "skipped": summary["skipped"],
                "failures": summary["failures"],
                "unreachable": summary["unreachable"],
            }
        self._write(event="stats", hosts=hosts)

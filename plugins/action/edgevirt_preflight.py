"""Brings edgevirt's probe to a node, runs it there, and has its facts judged here.

The module of the same name documents it. Whoever judges is the installer itself, so a
playbook and the command line cannot disagree.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

# Exit codes of `edgevirt preflight` that come with a report: pass, failures, warnings.
REPORTS = (0, 3, 4)


class ActionModule(ActionBase):
    """See the module."""

    TRANSFERS_FILES = True
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """One probe, one judgement."""
        result = super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(
            argument_spec={
                "requirements": {"type": "dict", "default": {}},
                "skip": {"type": "list", "elements": "str", "default": []},
                "strict": {"type": "bool", "default": False},
                "trial": {"type": "bool", "default": False},
                "enforce": {"type": "bool", "default": True},
                "edgevirt": {"type": "path", "default": "edgevirt"},
                "probe": {"type": "path", "default": ""},
            }
        )
        trial = options["trial"] and not self._task.check_mode
        try:
            facts = self._gather(options, trial)
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        report = self._judge(options, facts)
        node = report["nodes"][0]
        failing = [verdict for verdict in node["verdicts"] if verdict["status"] == "fail"]
        if options["strict"]:
            failing += [verdict for verdict in node["verdicts"] if verdict["status"] == "warn"]
        result.update(
            changed=False,
            status=node["status"],
            verdicts=node["verdicts"],
            ansible_facts={"edgevirt_preflight": node},
        )
        if failing and options["enforce"]:
            result.update(failed=True, msg="\n".join(map(describe, failing)))
        return result

    def _gather(self, options, trial):
        """The probe's document, from the node."""
        program = options["probe"] or os.path.join(os.path.dirname(options["edgevirt"]), "edgevirt-probe")
        if not os.path.isfile(program):
            raise AnsibleActionFail(f"expected edgevirt's probe at {program}; build it with: make build")
        directory = self._make_tmp_path()
        remote = self._connection._shell.join_path(directory, "edgevirt-probe")
        self._transfer_file(program, remote)
        self._fixup_perms2((directory, remote), execute=True)
        words = [remote, "gather"] + (["--trial"] if trial else [])
        answer = self._low_level_execute_command(shlex.join(words), sudoable=True)
        if answer["rc"] != 0:
            raise AnsibleActionFail(f"the probe ended with {answer['rc']}: {answer['stderr'].strip() or answer['stdout'].strip()}")
        try:
            return json.loads(answer["stdout"])
        except ValueError as error:
            raise AnsibleActionFail(f"expected JSON of the probe, found {answer['stdout'][:200]!r}: {error}") from error

    def _judge(self, options, facts):
        """The installer's report on these facts."""
        with tempfile.TemporaryDirectory() as scratch:
            asked = write(scratch, "requirements.json", options["requirements"])
            words = [options["edgevirt"], "preflight", "--output=json", f"--requirements={asked}"]
            words += [f"--facts={write(scratch, 'facts.json', facts)}"]
            words += [f"--skip={check}" for check in options["skip"]]
            try:
                done = subprocess.run(words, capture_output=True, text=True, check=False)
            except OSError as error:
                raise AnsibleActionFail(f"cannot run {options['edgevirt']}: {error}") from error
        if done.returncode not in REPORTS:
            raise AnsibleActionFail(f"edgevirt preflight ended with {done.returncode}: {done.stderr.strip()}")
        return json.loads(done.stdout)


def write(directory, name, value):
    """The path of a new file with this value as JSON."""
    path = os.path.join(directory, name)
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(value, stream)
    return path


def describe(verdict):
    """One failing verdict for people."""
    where = f" ({verdict['subject']})" if verdict.get("subject") else ""
    return f"{verdict['id']}{where}: {verdict['evidence']}; {verdict['remedy']}"

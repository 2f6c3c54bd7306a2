"""roles/kubernetes/files/units: what it asks of systemd, which is a script here that notes it."""

import os
import subprocess
import tempfile
import time
import unittest

SCRIPT = os.path.join(os.path.dirname(__file__), "../../roles/kubernetes/files/units")
SYSTEMCTL = """#!/bin/bash
if [ "$1" = show ]; then cat "$STATE"; else echo "$*" >> "$ASKED"; fi
"""


class Units(unittest.TestCase):
    """Two units, in the states that a test gives them."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.top = directory.name
        with open(os.path.join(self.top, "systemctl"), "w", encoding="utf-8") as out:
            out.write(SYSTEMCTL)
        os.chmod(os.path.join(self.top, "systemctl"), 0o755)
        for name in ("a.service", "b.service"):
            with open(os.path.join(self.top, name), "w", encoding="utf-8"):
                pass

    def state(self, name, enabled="enabled", active="active", since=None):
        """A unit as `systemctl show` tells of it."""
        since = int(time.time()) + 1 if since is None else since
        lines = [f"Id={name}", f"ActiveState={active}", f"FragmentPath={self.top}/{name}",
                 f"UnitFileState={enabled}", f"ActiveEnterTimestamp={'@%d' % since if active == 'active' else ''}"]
        return "\n".join(lines)

    def run_with(self, *states, verb="run"):
        """What it printed, and what it asked systemd for."""
        asked, state = os.path.join(self.top, "asked"), os.path.join(self.top, "state")
        with open(state, "w", encoding="utf-8") as out:
            out.write("\n\n".join(states) + "\n")
        environment = {"PATH": self.top + ":/usr/bin:/bin", "STATE": state, "ASKED": asked}
        with open(SCRIPT, encoding="utf-8") as script:
            result = subprocess.run(["/bin/bash", "-c", script.read(), "units", verb, "a.service", "b.service"],
                                    env=environment, capture_output=True, text=True, check=True)
        if not os.path.exists(asked):
            return result.stdout, ""
        with open(asked, encoding="utf-8") as done:
            return result.stdout, done.read()

    def test_new_ones_are_enabled_and_started_in_one_call_each(self):
        """Nothing ran before."""
        new = [self.state(name, enabled="disabled", active="inactive") for name in ("a.service", "b.service")]
        want = "enable a.service b.service\nstart a.service b.service\n"
        self.assertEqual(self.run_with(*new), (want, want))

    def test_what_runs_is_left_alone(self):
        """A second run."""
        self.assertEqual(self.run_with(self.state("a.service"), self.state("b.service")), ("", ""))

    def test_one_that_stopped_is_started(self):
        """Whatever ended it."""
        want = "start b.service\n"
        self.assertEqual(self.run_with(self.state("a.service"), self.state("b.service", active="failed")), (want, want))

    def test_one_whose_file_is_newer_than_its_start_is_restarted(self):
        """The run that wrote the file was interrupted before it came to this."""
        old = self.state("a.service", since=int(time.time()) - 60)
        want = "restart a.service\n"
        self.assertEqual(self.run_with(old, self.state("b.service")), (want, want))

    def test_check_mode_says_it_and_asks_nothing(self):
        """Units that check mode did not write are not known to systemd."""
        unknown = "Id=a.service\nActiveState=inactive\nFragmentPath=\nUnitFileState=\nActiveEnterTimestamp="
        printed, asked = self.run_with(unknown, self.state("b.service"), verb="check")
        self.assertEqual((printed, asked), ("enable a.service\nstart a.service\n", ""))


if __name__ == "__main__":
    unittest.main()

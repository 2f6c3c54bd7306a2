"""roles/kubernetes/tasks/kubeconfig.yml: what the user's machine gets of a control plane that is another machine.

Ansible's own connection over SSH is used; in the place of ssh is a script that runs the command here."""

import json
import os
import stat
import subprocess
import sys
import tempfile
import unittest

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
ROLE = os.path.join(TOP, "roles/kubernetes")
ADMIN = """\
clusters:
  - name: edgevirt
    cluster:
      server: https://10.99.0.1:6443
      certificate-authority-data: QQ==
"""
FETCH = """\
- hosts: control_plane
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: kubernetes, tasks_from: kubeconfig}
"""
NAMES = f"""\
- hosts: control_plane:workers
  gather_facts: false
  vars_files: [{ROLE}/defaults/main.yml, {ROLE}/vars/main.yml]
  vars: {{kubernetes_control_plane_host: "{{{{ groups['control_plane'][0] }}}}"}}
  tasks:
    - ansible.builtin.copy:
        content: "{{{{ __kubernetes_certificates_control_plane[2].names | to_json }}}}"
        dest: "{{{{ playbook_dir }}}}/names"
      delegate_to: localhost
      run_once: true
"""


class Kubeconfig(unittest.TestCase):
    """A control plane edge1 in an inventory of its own."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.top = os.path.realpath(directory.name)
        self.write("ssh", '#!/bin/bash\nexec /bin/sh -c "${@: -1}"\n')
        os.chmod(self.path("ssh"), 0o755)
        self.write("fetch.yml", FETCH)
        self.write("names.yml", NAMES)
        self.inventory(ansible_host="192.0.2.11")

    def path(self, name):
        """Of a file of this test."""
        return os.path.join(self.top, name)

    def write(self, name, text):
        """A file of this test."""
        with open(self.path(name), "w", encoding="utf-8") as out:
            out.write(text)

    def read(self, name):
        """A file of this test."""
        with open(self.path(name), encoding="utf-8") as handle:
            return handle.read()

    def inventory(self, **variables):
        """The control plane's variables."""
        variables = {"ansible_ssh_executable": self.path("ssh"), "kubernetes_config_dir": self.top, **variables}
        self.write("site.yml", json.dumps({"all": {"children": {
            "control_plane": {"hosts": {"edge1": variables}}, "workers": {"hosts": {}}}}}))

    def play(self, name, *words):
        """Runs a playbook of this test: its exit code, and what it printed."""
        result = subprocess.run(
            [os.path.join(os.path.dirname(sys.executable), "ansible-playbook"), "-i", "site.yml", name, *words],
            cwd=self.top, env={**os.environ, "ANSIBLE_CONFIG": os.path.join(TOP, "ansible.cfg")},
            capture_output=True, text=True, check=False)
        return result.returncode, result.stdout + result.stderr

    def test_it_comes_beside_the_inventory_for_its_owner_only_with_an_address_that_is_reached(self):
        """By default port 6443 of the address that SSH goes to; the second time nothing changes."""
        self.write("admin.conf", ADMIN)
        code, said = self.play("fetch.yml")
        self.assertEqual(code, 0, said)
        self.assertIn(self.path("site.yml.kubeconfig"), said)
        self.assertNotIn("QQ==", said)
        self.assertEqual(self.read("site.yml.kubeconfig"), ADMIN.replace("10.99.0.1", "192.0.2.11"))
        self.assertEqual(stat.S_IMODE(os.stat(self.path("site.yml.kubeconfig")).st_mode), 0o600)
        code, said = self.play("fetch.yml")
        self.assertIn("changed=0", said)

    def test_the_inventory_names_address_and_place(self):
        """Behind a forwarded port, for example."""
        self.write("admin.conf", ADMIN)
        self.inventory(kubernetes_api_endpoint="gate.example:16443", kubernetes_kubeconfig=self.path("there"))
        code, said = self.play("fetch.yml")
        self.assertEqual(code, 0, said)
        self.assertIn("server: https://gate.example:16443\n", self.read("there"))

    def test_without_a_cluster_it_is_refused_and_what_was_fetched_stays(self):
        """Nobody brought it up, or it is somebody else's."""
        self.write("site.yml.kubeconfig", "earlier")
        code, said = self.play("fetch.yml")
        self.assertNotEqual(code, 0)
        self.assertIn("playbooks/cluster.yml", said)
        self.assertEqual(self.read("site.yml.kubeconfig"), "earlier")

    def names(self, *words, **variables):
        """What the API server's certificate is for."""
        self.inventory(**variables)
        code, said = self.play("names.yml", *words)
        self.assertEqual(code, 0, said)
        return json.loads(self.read("names"))

    def test_the_certificate_names_how_the_api_server_is_reached(self):
        """By address or by name; a control plane on this machine is called by nothing new."""
        local = self.names(ansible_connection="local")
        for added, variables in [
                ("IP:192.0.2.11", {"ansible_host": "192.0.2.11"}), ("DNS:edge1", {}),
                ("IP:fd00::b", {"ansible_host": "[fd00::b]"})]:
            self.assertEqual(self.names(**variables), local + [added])
        self.assertEqual(self.names("-e", "kubernetes_api_endpoint=gate.example:16443"), local + ["DNS:gate.example"])


if __name__ == "__main__":
    unittest.main()

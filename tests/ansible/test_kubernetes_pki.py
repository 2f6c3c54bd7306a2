"""What the certificate module does again, and what it leaves alone."""

import base64
import ctypes
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODULE = os.path.join(ROOT, "roles/kubernetes/library/kubernetes_pki.py")

ADMIN = {"name": "admin", "authority": "ca", "common_name": "admin", "organization": "system:masters"}
SERVER = {"name": "server", "authority": "ca", "common_name": "server", "usages": ["serverAuth"],
          "names": ["IP:10.0.0.1", "DNS:localhost"]}


class Pki(unittest.TestCase):
    """Each test has a directory of its own."""

    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = os.path.join(scratch.name, "pki")

    def path(self, name):
        """A path in the test's directory."""
        return os.path.join(self.directory, name)

    def run_module(self, certificates=(), check=False, **more):
        """Runs the module as Ansible would and returns its answer."""
        arguments = {"directory": self.directory, "authorities": ["ca"], "signing_keys": ["sa"],
                     "certificates": list(certificates), "_ansible_check_mode": check, **more}
        code = ("import json, sys; from ansible.module_utils import basic;"
                "from ansible.module_utils.testing import patch_module_args;"
                "import runpy\n"
                "with patch_module_args(json.loads(sys.argv[2])):\n"
                "    runpy.run_path(sys.argv[1], run_name='__main__')")
        done = subprocess.run([sys.executable, "-c", code, MODULE, json.dumps(arguments)],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return json.loads(done.stdout)

    def certificate(self, name):
        """The text of a certificate."""
        return subprocess.run(["openssl", "x509", "-noout", "-text", "-in", self.path(name + ".crt")],
                              capture_output=True, text=True, check=True).stdout

    def test_a_second_run_issues_nothing(self):
        self.assertEqual(self.run_module([ADMIN, SERVER])["issued"], ["ca", "sa", "admin", "server"])
        self.assertFalse(self.run_module([ADMIN, SERVER])["changed"])

    def test_check_mode_says_what_it_would_issue_and_writes_nothing(self):
        self.assertEqual(self.run_module([ADMIN], check=True)["issued"], ["ca", "sa", "admin"])
        self.assertFalse(os.path.exists(self.directory))

    def test_a_password_is_made_once_and_is_the_one_that_the_server_knows(self):
        first = self.run_module(passwords=["registry"])
        self.assertEqual(first["issued"], ["ca", "sa", "registry"])
        self.assertFalse(self.run_module(passwords=["registry"])["changed"])
        with open(self.path("registry.password"), encoding="utf-8") as handle:
            password = handle.read().strip()
        with open(self.path("registry.htpasswd"), encoding="utf-8") as handle:
            user, hashed = handle.read().strip().split(":")
        library = ctypes.CDLL("libcrypt.so.1")
        library.crypt.restype = ctypes.c_char_p
        self.assertEqual((user, hashed[:7]), ("edgevirt", "$2b$05$"))
        self.assertEqual(library.crypt(password.encode(), hashed.encode()).decode(), hashed)
        for name in ("registry.password", "registry.htpasswd"):
            self.assertEqual(os.stat(self.path(name)).st_mode & 0o777, 0o600, name)
        os.remove(self.path("registry.htpasswd"))
        self.assertEqual(self.run_module(passwords=["registry"])["issued"], ["registry"])

    def test_another_name_issues_only_that_certificate_again(self):
        self.run_module([ADMIN, SERVER])
        changed = {**SERVER, "names": ["IP:10.0.0.2", "DNS:localhost"]}
        self.assertEqual(self.run_module([ADMIN, changed])["issued"], ["server"])
        self.assertIn("IP Address:10.0.0.2", self.certificate("server"))

    def test_another_group_issues_again(self):
        self.run_module([ADMIN])
        self.assertEqual(self.run_module([{**ADMIN, "organization": "viewers"}])["issued"], ["admin"])

    def test_a_certificate_near_its_end_is_renewed(self):
        self.run_module([ADMIN], days=20)
        self.assertEqual(self.run_module([ADMIN], days=365)["issued"], ["admin"])

    def test_a_new_authority_renews_all_that_it_signed(self):
        self.run_module([ADMIN])
        os.unlink(self.path("ca.crt"))
        self.assertEqual(self.run_module([ADMIN])["issued"], ["ca", "admin"])

    def test_a_certificate_of_another_authority_is_replaced(self):
        self.run_module([ADMIN], authorities=["ca", "other"])
        self.run_module([{**ADMIN, "name": "guest", "authority": "other"}], authorities=["ca", "other"])
        os.rename(self.path("guest.crt"), self.path("admin.crt"))
        self.assertEqual(self.run_module([ADMIN], authorities=["ca", "other"])["issued"], ["admin"])

    def test_keys_are_readable_by_their_owner_only(self):
        self.run_module([ADMIN])
        for name in ("ca.key", "sa.key", "admin.key"):
            self.assertEqual(os.stat(self.path(name)).st_mode & 0o777, 0o600, name)

    def test_leaf_certificates_are_no_authorities(self):
        self.run_module([SERVER])
        self.assertIn("CA:FALSE", self.certificate("server"))
        self.assertNotIn("TLS Web Client Authentication", self.certificate("server"))

    def test_a_kubeconfig_stands_alone_and_follows_its_certificate(self):
        wanted = {**ADMIN, "kubeconfig": self.path("admin.conf")}
        self.run_module([wanted], server="https://10.0.0.1:6443")
        with open(self.path("admin.conf"), encoding="utf-8") as handle:
            text = handle.read()
        embedded = re.search(r"client-certificate-data: (\S+)", text).group(1)
        with open(self.path("admin.crt"), "rb") as handle:
            self.assertEqual(base64.b64decode(embedded), handle.read())
        self.assertIn("server: https://10.0.0.1:6443", text)
        self.assertNotIn(self.directory, text)
        self.assertEqual(self.run_module([wanted], server="https://10.0.0.2:6443")["issued"], ["admin.conf"])


if __name__ == "__main__":
    unittest.main()

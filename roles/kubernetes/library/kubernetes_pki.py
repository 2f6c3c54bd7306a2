#!/usr/bin/python
# -*- coding: utf-8 -*-
"""The certificates and kubeconfigs of one cluster, in one idempotent call."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: kubernetes_pki
short_description: Keep the certificates, passwords and kubeconfigs of a cluster
description:
  - Issues certificate authorities, the service account key pair and leaf
    certificates with the C(openssl) program, and writes kubeconfigs that embed them.
  - A leaf certificate is issued again when it is missing, when its subject,
    names or authority differ from what is asked for, and when it nears its end.
  - Private keys are P-256 and readable by root only.
options:
  directory:
    description: Where authorities and leaf certificates are kept.
    type: path
    required: true
  authorities:
    description: Names of the certificate authorities.
    type: list
    elements: str
    required: true
  signing_keys:
    description: Names of key pairs that sign tokens, C(NAME.key) and C(NAME.pub).
    type: list
    elements: str
    default: []
  passwords:
    description:
      - Names of passwords of the user C(edgevirt), C(NAME.password) and, for the
        server that asks for it, C(NAME.htpasswd).
    type: list
    elements: str
    default: []
  certificates:
    description: Leaf certificates.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: File name without extension.
        type: str
        required: true
      directory:
        description: Another directory than the module's.
        type: path
      authority:
        description: The authority that signs it.
        type: str
        required: true
      common_name:
        description: CN of the subject; the user name of a client.
        type: str
        required: true
      organization:
        description: O of the subject; the group of a client.
        type: str
      usages:
        description: Extended key usages.
        type: list
        elements: str
        choices: [clientAuth, serverAuth]
        default: [clientAuth]
      names:
        description: Subject alternative names, as C(IP:10.0.0.1) or C(DNS:name).
        type: list
        elements: str
        default: []
      kubeconfig:
        description: Path of a kubeconfig that embeds this client certificate.
        type: path
  server:
    description: URL of the API server, for kubeconfigs.
    type: str
    default: ""
  server_authority:
    description: The authority that signed the API server's certificate.
    type: str
    default: ca
  days:
    description: Life of a leaf certificate in days.
    type: int
    default: 365
  authority_days:
    description: Life of an authority in days.
    type: int
    default: 3650
  renew_days:
    description: A certificate with fewer days left is issued again.
    type: int
    default: 30
author:
  - edgevirt
"""

EXAMPLES = r"""
- name: An authority and an administrator's kubeconfig
  kubernetes_pki:
    directory: /etc/edgevirt/pki
    authorities: [ca]
    server: https://10.99.0.1:6443
    certificates:
      - name: admin
        authority: ca
        common_name: admin
        organization: system:masters
        kubeconfig: /etc/edgevirt/admin.conf
"""

RETURN = r"""
issued:
  description: Names of what was, or in check mode would be, issued or written.
  returned: always
  type: list
  elements: str
digests:
  description: A digest of the public part of each authority, key and certificate, by name, or by C(LAST PART OF DIRECTORY/NAME) where it has a directory of its own.
  returned: always
  type: dict
"""

import base64
import ctypes
import hashlib
import os
import secrets
import tempfile

from ansible.module_utils.basic import AnsibleModule

KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters:
  - name: edgevirt
    cluster:
      server: {server}
      certificate-authority-data: {authority}
users:
  - name: {user}
    user:
      client-certificate-data: {certificate}
      client-key-data: {key}
contexts:
  - name: edgevirt
    context:
      cluster: edgevirt
      user: {user}
current-context: edgevirt
"""


def read(path):
    """The bytes of a file, or none where there is no such file."""
    try:
        with open(path, "rb") as handle:
            return handle.read()
    except FileNotFoundError:
        return None


class Pki:
    """Compares what is on disk with what is asked for, and issues the rest."""

    def __init__(self, module):
        self.module = module
        self.directory = module.params["directory"]
        self.issued = []
        self.digests = {}

    def openssl(self, *arguments, **options):
        """Runs openssl; its error text is the module's."""
        return self.module.run_command(["openssl", *arguments], check_rc=True, **options)[1]

    def holds(self, *arguments):
        """Whether an openssl check passes."""
        return self.module.run_command(["openssl", *arguments])[0] == 0

    def path(self, name, extension, directory=None):
        """The path of one file of the set."""
        return os.path.join(directory or self.directory, name + "." + extension)

    def install(self, path, content, mode):
        """Writes a file by a rename, never visible with wider rights."""
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path))
        with os.fdopen(handle, "wb") as out:
            out.write(content)
        os.chmod(temporary, mode)
        os.rename(temporary, path)

    def fresh(self, path):
        """Whether a certificate has more than the days of grace left."""
        seconds = str(self.module.params["renew_days"] * 86400)
        return os.path.exists(path) and self.holds(
            "x509", "-noout", "-checkend", seconds, "-in", path)

    def digest(self, name, path):
        """Records the digest of a public file."""
        content = read(path)
        self.digests[name] = hashlib.sha256(content).hexdigest()[:12] if content else ""

    def new_key(self):
        """A P-256 private key in PEM."""
        return self.openssl("genpkey", "-algorithm", "EC", "-pkeyopt",
                            "ec_paramgen_curve:P-256").encode()

    def authority(self, name):
        """A self-signed certificate authority."""
        key, certificate = self.path(name, "key"), self.path(name, "crt")
        if not (os.path.exists(key) and self.fresh(certificate)):
            self.issued.append(name)
            if not self.module.check_mode:
                self.install(key, self.new_key(), 0o600)
                days = str(self.module.params["authority_days"])
                text = self.openssl(
                    "req", "-x509", "-new", "-key", key, "-sha256", "-days", days,
                    "-subj", "/CN=edgevirt-" + name,
                    "-addext", "keyUsage=critical,digitalSignature,keyCertSign,cRLSign")
                self.install(certificate, text.encode(), 0o644)
        self.digest(name, certificate)

    def signing_key(self, name):
        """A key pair that signs service account tokens; it has no end date."""
        key, public = self.path(name, "key"), self.path(name, "pub")
        if not (os.path.exists(key) and os.path.exists(public)):
            self.issued.append(name)
            if not self.module.check_mode:
                self.install(key, self.new_key(), 0o600)
                text = self.openssl("pkey", "-in", key, "-pubout")
                self.install(public, text.encode(), 0o644)
        self.digest(name, public)

    @staticmethod
    def bcrypt(password):
        """Hash of a password, by the C library's crypt: the only kind that the registry takes.
        The password is random, so few rounds are enough, and every request costs them."""
        library = ctypes.CDLL("libcrypt.so.1")
        for function in (library.crypt, library.crypt_gensalt):
            function.restype = ctypes.c_char_p
        salt = library.crypt_gensalt(b"$2b$", ctypes.c_ulong(5), None, 0)
        return library.crypt(password.encode(), salt).decode()

    def password(self, name):
        """A random password, and its hash for the server."""
        plain, hashed = self.path(name, "password"), self.path(name, "htpasswd")
        if not (os.path.exists(plain) and os.path.exists(hashed)):
            self.issued.append(name)
            if not self.module.check_mode:
                password = secrets.token_hex(24)
                self.install(hashed, f"edgevirt:{self.bcrypt(password)}\n".encode(), 0o600)
                self.install(plain, (password + "\n").encode(), 0o600)
        self.digest(name, hashed)

    @staticmethod
    def extensions(wanted):
        """The extension section of a leaf certificate."""
        lines = [
            "basicConstraints=critical,CA:FALSE",
            "keyUsage=critical,digitalSignature",
            "extendedKeyUsage=" + ",".join(wanted["usages"]),
            "authorityKeyIdentifier=keyid",
            "subjectKeyIdentifier=hash",
        ]
        if wanted["names"]:
            lines.append("subjectAltName=" + ",".join(wanted["names"]))
        return "\n".join(lines) + "\n"

    @staticmethod
    def subject(wanted):
        """The subject in openssl's slash form."""
        organization = "/O=" + wanted["organization"] if wanted["organization"] else ""
        return organization + "/CN=" + wanted["common_name"]

    def matches(self, wanted, certificate):
        """Whether a certificate on disk is the one asked for."""
        authority = self.path(wanted["authority"], "crt")
        if not self.fresh(certificate) or not self.holds("verify", "-CAfile", authority, certificate):
            return False
        text = self.openssl("x509", "-noout", "-subject", "-nameopt", "compat,sep_multiline,utf8",
                            "-ext", "subjectAltName,extendedKeyUsage", "-in", certificate)
        lines = [line.strip() for line in text.splitlines()]
        subject = "".join("/" + line for line in lines if line.startswith(("O=", "CN=")))
        listed = {item.strip().replace("IP Address:", "IP:")
                  for line in lines if line.startswith(("DNS:", "IP Address:"))
                  for item in line.split(",")}
        uses = {"clientAuth": "TLS Web Client Authentication",
                "serverAuth": "TLS Web Server Authentication"}
        granted = {item.strip() for line in lines if line.startswith("TLS Web")
                   for item in line.split(",")}
        return (subject == self.subject(wanted) and listed == set(wanted["names"])
                and granted == {uses[usage] for usage in wanted["usages"]})

    def leaf(self, wanted):
        """One certificate, its key and, if asked for, its kubeconfig."""
        name, directory = wanted["name"], wanted["directory"]
        key = self.path(name, "key", directory)
        certificate = self.path(name, "crt", directory)
        stale = wanted["authority"] in self.issued
        if stale or not os.path.exists(key) or not self.matches(wanted, certificate):
            self.issued.append(name)
            if not self.module.check_mode:
                self.issue(wanted, key, certificate)
        self.digest(os.path.join(os.path.basename(directory), name) if directory else name, certificate)
        if wanted["kubeconfig"] and os.path.exists(certificate):
            self.kubeconfig(wanted, key, certificate)

    def issue(self, wanted, key, certificate):
        """Signs a new key with the authority."""
        self.install(key, self.new_key(), 0o600)
        with tempfile.TemporaryDirectory() as scratch:
            request = os.path.join(scratch, "request")
            extensions = os.path.join(scratch, "extensions")
            with open(extensions, "w", encoding="utf-8") as out:
                out.write(self.extensions(wanted))
            self.openssl("req", "-new", "-key", key, "-subj", self.subject(wanted), "-out", request)
            # A random serial: a counter file would be shared state to lose.
            text = self.openssl(
                "x509", "-req", "-in", request, "-sha256", "-days", str(self.module.params["days"]),
                "-CA", self.path(wanted["authority"], "crt"),
                "-CAkey", self.path(wanted["authority"], "key"),
                "-set_serial", "0x" + os.urandom(15).hex(), "-extfile", extensions)
        self.install(certificate, text.encode(), 0o644)

    def kubeconfig(self, wanted, key, certificate):
        """A kubeconfig that stands alone: it can be copied to another machine."""
        def encoded(path):
            return base64.b64encode(read(path)).decode()
        content = KUBECONFIG.format(
            server=self.module.params["server"], user=wanted["common_name"],
            authority=encoded(self.path(self.module.params["server_authority"], "crt")),
            certificate=encoded(certificate), key=encoded(key)).encode()
        if read(wanted["kubeconfig"]) != content:
            self.issued.append(os.path.basename(wanted["kubeconfig"]))
            if not self.module.check_mode:
                self.install(wanted["kubeconfig"], content, 0o600)


def main():
    """Entry point."""
    leaf = {
        "name": {"type": "str", "required": True},
        "directory": {"type": "path"},
        "authority": {"type": "str", "required": True},
        "common_name": {"type": "str", "required": True},
        "organization": {"type": "str"},
        "usages": {"type": "list", "elements": "str", "choices": ["clientAuth", "serverAuth"],
                   "default": ["clientAuth"]},
        "names": {"type": "list", "elements": "str", "default": []},
        "kubeconfig": {"type": "path"},
    }
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "authorities": {"type": "list", "elements": "str", "required": True},
            "signing_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "passwords": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "certificates": {"type": "list", "elements": "dict", "default": [], "options": leaf},
            "server": {"type": "str", "default": ""},
            "server_authority": {"type": "str", "default": "ca"},
            "days": {"type": "int", "default": 365},
            "authority_days": {"type": "int", "default": 3650},
            "renew_days": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    pki = Pki(module)
    for name in module.params["authorities"]:
        pki.authority(name)
    for name in module.params["signing_keys"]:
        pki.signing_key(name)
    for name in module.params["passwords"]:
        pki.password(name)
    for wanted in module.params["certificates"]:
        pki.leaf(wanted)
    module.exit_json(changed=bool(pki.issued), issued=pki.issued, digests=pki.digests)


if __name__ == "__main__":
    main()

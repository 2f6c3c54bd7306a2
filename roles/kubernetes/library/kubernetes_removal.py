#!/usr/bin/python
# -*- coding: utf-8 -*-
"""Takes a node's share of the cluster off a machine, whatever state it is in."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: kubernetes_removal
short_description: Remove every trace of the embedded cluster from a machine
description:
  - Stops the services and pods and removes their mounts, links, rules, cgroups,
    namespaces and files, in the order in which they hold one another.
  - Works on a running, a half-built and a crashed cluster, and on one whose
    processes a reboot took away. Every step looks at the machine, not at a
    record of what was installed.
  - What was on the machine before the cluster stays. C(CONFIG_DIR/before), which
    the node's preparation wrote, tells what that was; it is removed last, so an
    interrupted removal can be run again.
options:
  config_dir:
    description: The configuration directory.
    type: path
    required: true
  state_dir:
    description: The state directory.
    type: path
    required: true
  run_dir:
    description: The runtime directory.
    type: path
    required: true
  log_dir:
    description: The log directory.
    type: path
    required: true
  cache_dir:
    description: The build cache; it stays, but programs that run from it are stopped.
    type: path
    required: true
  bridge:
    description: The bridge that carries the node's address.
    type: str
    required: true
  link:
    description: A link to the cache's kubectl.
    type: path
author:
  - edgevirt
"""

EXAMPLES = r"""
- name: Remove the cluster
  kubernetes_removal:
    config_dir: /etc/edgevirt
    state_dir: /var/lib/edgevirt
    run_dir: /run/edgevirt
    log_dir: /var/log/edgevirt
    cache_dir: /var/cache/edgevirt
    bridge: edge0
"""

RETURN = r"""
removed:
  description: What was, or in check mode would be, removed.
  returned: always
  type: list
  elements: str
"""

import glob
import os
import re
import shutil
import signal
import time

from ansible.module_utils.basic import AnsibleModule

# The bridge of pods; cni.conflist.j2 names it.
POD_BRIDGE = "cni0"
# nft tables of our own and of kube-proxy in nftables mode.
NFT_TABLES = ["ip edgevirt", "ip kube-proxy", "ip6 kube-proxy"]
# Chains of kube-proxy in iptables mode, of the kubelet and of CNI plugins.
CHAIN = re.compile(r"^(KUBE|CNI)-")
# Programs from packages; those of the cache are known by where they are.
PACKAGED = {"containerd", "containerd-shim-runc-v2", "docker-registry", "etcd", "runc", "supervisord"}
# The group of all pods under systemd.
SLICE = "kubepods.slice"
# Seconds until processes that ignore being killed are reported as a failure.
PATIENCE = 30


def lines_of(path):
    """Lines of a file; none where there is no such file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read().splitlines()
    except OSError:
        return []


def unescape(path):
    """A path of /proc/mounts as it is."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), path)


class Removal:
    """Each method takes one kind of thing away, and says so in `removed`."""

    def __init__(self, module):
        self.module = module
        self.removed = []
        wanted = module.params
        self.config, self.state = wanted["config_dir"], wanted["state_dir"]
        self.run_dir, self.log, self.cache = wanted["run_dir"], wanted["log_dir"], wanted["cache_dir"]
        self.bridge, self.link = wanted["bridge"], wanted["link"]
        self.before = os.path.join(self.config, "before")
        self.known = os.path.exists(os.path.join(self.before, "done"))
        self.absent = lines_of(os.path.join(self.before, "absent-paths")) if self.known else []
        self.own = [self.config, self.state, self.run_dir, self.log]

    # ---- helpers ----------------------------------------------------------

    def command(self, *words, **options):
        """Runs a program; a missing one is a failure like any other."""
        if not shutil.which(words[0]):
            return 127, "", ""
        return self.module.run_command(list(words), **options)

    def act(self, what, function, *arguments):
        """Notes what is removed and, unless only asked, removes it."""
        self.removed.append(what)
        if not self.module.check_mode:
            function(*arguments)

    def inside(self, path, places):
        """Whether a path is one of the places or below one."""
        return any(path == place or path.startswith(place + "/") for place in places)

    # ---- services and processes ---------------------------------------------

    def units(self):
        """systemd units; stopped and disabled before their files go."""
        paths = sorted(glob.glob("/etc/systemd/system/edgevirt-*.service"))
        names = [os.path.basename(path) for path in paths]
        if not names:
            return
        def drop():
            self.command("systemctl", "disable", "--now", *names)
            for path in paths:
                os.unlink(path)
            self.command("systemctl", "daemon-reload")
            # systemd goes on listing one that failed to stop in time.
            self.command("systemctl", "reset-failed", *names)
        self.act("units " + " ".join(names), drop)

    def supervisor(self):
        """The supervisor goes first, or it would start again what we stop."""
        config = os.path.join(self.config, "supervisord.conf")
        for pid, words in self.programs():
            # A script: its name is the second word.
            if "supervisord" in [os.path.basename(word) for word in words[:2]] and config in words:
                self.act("supervisord", self.kill, pid)

    @staticmethod
    def kill(pid):
        """Ends a process at once: nothing that it could still write is kept."""
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    @staticmethod
    def programs():
        """Process numbers and command lines."""
        for entry in glob.glob("/proc/[0-9]*"):
            try:
                with open(entry + "/cmdline", "rb") as handle:
                    words = handle.read().decode(errors="replace").split("\0")
            except OSError:
                continue
            if words[0]:
                yield int(entry[6:]), words

    def namespaces(self):
        """Network namespaces of nodes: recorded, or pinned beside a record that is lost."""
        names = set(lines_of(os.path.join(self.before, "netns")))
        names.update(os.path.basename(os.path.dirname(path))
                     for path in glob.glob(os.path.join(self.run_dir, "*", "mount")))
        return sorted(name for name in names if name and os.path.exists("/run/netns/" + name))

    def cgroup_roots(self):
        """Groups that our kubelets made. Without a record a kubelet's may be another's."""
        roots = []
        names = ["kubepods", "kubepods.slice"] if self.known else []
        for name in names + lines_of(os.path.join(self.before, "netns")):
            roots += [path for path in glob.glob("/sys/fs/cgroup/" + name)
                      + glob.glob("/sys/fs/cgroup/*/" + name) if os.path.isdir(path)]
        return roots

    def ours(self):
        """Processes of the cluster: services by program and directory, the rest by cgroup."""
        found = {}
        mine = os.getpid()
        for pid, words in self.programs():
            name = os.path.basename(words[0])
            try:
                program = os.readlink(f"/proc/{pid}/exe")
            except OSError:
                program = ""
            mentions = any(place + "/" in word for word in words for place in self.own)
            names = {os.path.basename(word) for word in words[:2]}
            # Others may run etcd, or an API server of the cache for tests: ours name our directories.
            # kubectl is a user's; it ends by itself when the API server is gone.
            built = re.match(re.escape(self.cache) + r"/(kubernetes|coredns)-[^/]+/bin/(?!kubectl)", program)
            if mentions and (names & PACKAGED or built):
                found[pid] = name
            elif "after" in names and self.inside(words[1] if len(words) > 1 else "", [self.state]):
                found[pid] = name
        for root in self.cgroup_roots():
            for directory, _names, _files in os.walk(root):
                for pid in lines_of(os.path.join(directory, "cgroup.procs")):
                    if int(pid) > 0:
                        found[int(pid)] = "in " + directory
        found.pop(mine, None)
        return found

    def processes(self):
        """Services, shims and containers; killed, since nothing of theirs is kept."""
        found = self.ours()
        if not found:
            return
        self.removed.append(f"{len(found)} processes")
        if self.module.check_mode:
            return
        until = time.monotonic() + PATIENCE
        while found and time.monotonic() < until:
            for pid in found:
                self.kill(pid)
            time.sleep(0.2)
            found = self.ours()
        if found:
            listed = ", ".join(f"{pid} ({name})" for pid, name in found.items())
            self.module.fail_json(
                msg=f"expected every process of the cluster to end within {PATIENCE} s of SIGKILL, "
                    f"found {listed}; look at their state in /proc and run the removal again")

    # ---- what processes leave -----------------------------------------------

    def mounts(self):
        """Everything mounted at or below our paths, deepest last mounted first."""
        places = self.own + self.absent
        points = [unescape(line.split()[4]) for line in lines_of("/proc/self/mountinfo")]
        # Pinned network namespaces go with the namespaces.
        points = [point for point in points
                  if self.inside(point, places) and not self.inside(point, ["/run/netns"])]
        if points:
            self.act(f"{len(points)} mounts",
                     lambda: [self.command("umount", "--lazy", point) for point in reversed(points)])

    def links(self):
        """The nodes' namespaces and links, pods' links and both bridges."""
        for name in self.namespaces():
            self.act("network namespace " + name, self.command, "ip", "netns", "delete", name)
        # "ip netns" mounts the directory onto itself; it may hold others' namespaces by now.
        if "/run/netns" in self.absent and os.path.isdir("/run/netns") and not os.listdir("/run/netns"):
            self.act("/run/netns", self.drop_namespace_directory)
        earlier = set(lines_of(os.path.join(self.before, "links")))
        bridges = [self.bridge] + ([POD_BRIDGE] if self.known else [])
        for bridge in bridges:
            if not os.path.isdir(f"/sys/class/net/{bridge}/bridge") or bridge in earlier:
                continue
            for port in os.listdir(f"/sys/class/net/{bridge}/brif"):
                if port not in earlier:
                    self.act("link " + port, self.command, "ip", "link", "delete", port)
            self.act("link " + bridge, self.command, "ip", "link", "delete", bridge)

    def drop_namespace_directory(self):
        """Every mount of the directory onto itself, then the directory."""
        while self.mounted("/run/netns"):
            if self.command("umount", "/run/netns")[0] != 0:
                break
        os.rmdir("/run/netns")

    @staticmethod
    def mounted(path):
        """Whether something is mounted exactly there; a bind of a directory onto itself counts."""
        return any(unescape(line.split()[4]) == path for line in lines_of("/proc/self/mountinfo"))

    def rules(self):
        """Our nft tables; iptables chains of Kubernetes and CNI, and tables left empty by that."""
        earlier = lines_of(os.path.join(self.before, "nft-tables"))
        present = self.command("nft", "list", "tables")[1].splitlines()
        for table in NFT_TABLES:
            line = "table " + table
            if line in present and line not in earlier and (self.known or table == "ip edgevirt"):
                self.act("nft " + line, self.command, "nft", "delete", "table", *table.split())
        if not self.known:
            return
        for family, save, restore in (("ip", "iptables-save", "iptables-restore"),
                                      ("ip6", "ip6tables-save", "ip6tables-restore")):
            if any(line.startswith(f"table {family} ") for line in present) or \
                    lines_of(f"/proc/net/{family}_tables_names"):
                self.chains(save, restore)
        for line in self.command("nft", "list", "tables")[1].splitlines():
            if line not in earlier and re.match(r"^table ip6? (filter|mangle|nat|raw|security)$", line):
                words = line.split()
                content = self.command("nft", "list", "table", *words[1:])[1]
                # Only base chains that accept all: nothing is lost with them.
                if all(re.match(r"^(table .*\{|chain \S+ \{|type .* policy accept;|\}|)$", part.strip())
                       for part in content.splitlines()):
                    self.act("empty nft " + line, self.command, "nft", "delete", *words)

    def chains(self, save, restore):
        """Drops jumps into, then the content of, then the chains themselves, in one transaction a table."""
        table, jumps, chains = None, [], []
        script = []
        for line in self.command(save)[1].splitlines():
            if line.startswith("*"):
                table, jumps, chains = line, [], []
            elif line.startswith(":") and CHAIN.match(line[1:]):
                chains.append(line[1:].split()[0])
            elif line.startswith("-A ") and not CHAIN.match(line[3:]):
                target = re.search(r" -[jg] (\S+)", line)
                if target and CHAIN.match(target.group(1)):
                    jumps.append("-D" + line[2:])
            elif line == "COMMIT" and chains:
                script += [table] + jumps + ["-F " + chain for chain in chains]
                script += ["-X " + chain for chain in chains] + ["COMMIT"]
        if script:
            count = sum(1 for line in script if line.startswith("-X"))
            self.act(f"{count} chains of {save[:-5]}",
                     lambda: self.command(restore, "--noflush", data="\n".join(script) + "\n", check_rc=True))

    def cgroups(self):
        """Empty groups, children first."""
        def drop(root):
            for directory, _names, _files in os.walk(root, topdown=False):
                for _attempt in range(50):
                    try:
                        os.rmdir(directory)
                        break
                    except FileNotFoundError:
                        break
                    except OSError:
                        time.sleep(0.1)
        roots = self.cgroup_roots()
        if any(os.path.basename(root) == SLICE for root in roots):
            # systemd made the slice and those in it for the kubelet, and would keep them in its books. Nothing in them
            # runs any more.
            self.act("unit " + SLICE, self.command, "systemctl", "stop", SLICE)
        roots = [root for root in roots if os.path.isdir(root)]
        if roots:
            self.act(f"{len(roots)} cgroups", lambda: [drop(root) for root in roots])

    def kernel(self):
        """Sysctls, the module that filters bridges and mount propagation as they were."""
        earlier = lines_of(os.path.join(self.before, "sysctl"))
        # With it the machine's own bridges pass through iptables, which they did not before.
        if self.known and os.path.exists("/sys/module/br_netfilter/refcnt") and not any(
                line.startswith("net.bridge.") for line in earlier):
            self.act("module br_netfilter", self.command, "modprobe", "--remove", "br_netfilter")
        for line in earlier:
            key, _equals, value = line.partition("=")
            now = self.command("sysctl", "-n", key)[1].strip()
            if now and now != value:
                self.act(f"{key}={now}", self.command, "sysctl", "-qw", f"{key}={value}")
        private = set(lines_of(os.path.join(self.before, "private-mounts")))
        shared = [unescape(line.split()[4]) for line in lines_of("/proc/self/mountinfo")
                  if " shared:" in line.split(" - ")[0]]
        changed = [point for point in shared if point in private]
        if changed:
            self.act("shared propagation of mounts",
                     lambda: [self.command("mount", "--make-private", point) for point in changed])

    def files(self):
        """Directories that only the cluster made, then our own; the record goes last."""
        def drop(path):
            if os.path.islink(path) or not os.path.isdir(path):
                os.unlink(path)
            else:
                # A mount that could not be taken away must not be emptied.
                if any(self.inside(unescape(line.split()[4]), [path])
                       for line in lines_of("/proc/self/mountinfo")):
                    self.module.fail_json(msg=f"expected no mount below {path}, found one; "
                                              "unmount what /proc/mounts lists there and run the removal again")
                shutil.rmtree(path)
        if self.link and os.path.islink(self.link) and self.inside(os.readlink(self.link), [self.cache]):
            self.act(self.link, os.unlink, self.link)
        for path in self.absent:
            if os.path.lexists(path) and path != "/run/netns":
                self.act(path, drop, path)
        for path in (self.state, self.run_dir, self.log):
            if os.path.isdir(path):
                self.act(path, drop, path)
        if os.path.isdir(self.config):
            def last():
                for name in os.listdir(self.config):
                    if name != "before":
                        drop(os.path.join(self.config, name))
                drop(self.config)
            self.act(self.config, last)

    def all(self):
        """The whole removal: holders before what they hold."""
        self.units()
        self.supervisor()
        self.processes()
        self.mounts()
        self.links()
        self.rules()
        self.cgroups()
        self.kernel()
        self.files()


def main():
    """Entry point."""
    path = {"type": "path", "required": True}
    module = AnsibleModule(
        argument_spec={"config_dir": path, "state_dir": path, "run_dir": path, "log_dir": path,
                       "cache_dir": path, "bridge": {"type": "str", "required": True},
                       "link": {"type": "path"}},
        supports_check_mode=True)
    removal = Removal(module)
    removal.all()
    module.exit_json(changed=bool(removal.removed), removed=removal.removed)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Proves that removal leaves a machine as it was.

    leftovers.py snapshot FILE   record the machine's state
    leftovers.py compare  FILE   print what differs from it; exit 1 if anything does

Recorded are processes, mounts with their propagation, links, addresses,
routes, network namespaces, the nft rule set, legacy iptables tables, cgroups,
sysctls, and every path below the directories in ROOTS (with a digest for
/etc). Debian packages stay installed on purpose, so paths that a package owns
are no leftovers; nor are settings that came with a module of the kernel, the
build cache, which `make distclean` removes, and what kubectl caches in the
home of whoever calls it.
"""

import glob
import hashlib
import json
import os
import re
import subprocess
import sys

# Where anything of ours could be.
ROOTS = ["/etc", "/opt", "/run", "/usr/lib/systemd", "/usr/libexec", "/usr/local",
         "/var/lib", "/var/log"]

# Paths that change by themselves, by package management or by whoever works on the machine.
RESTLESS = re.compile(
    r"^(/etc/(alternatives|rc.\.d|ssl/certs|ld\.so\.cache|passwd|group|shadow|gshadow|sub[ug]id|mtab"
    r"|\.pwd\.lock|init\.d|apparmor\.d|apt)(/|-|$)|/etc/systemd/system/.*\.wants/"
    r"|/run/(adduser|blkid|mount|user|lock|sudo|utmp|log|systemd|udev|screen|tmux)(/|$)"
    r"|/usr/local/(cargo|rustup|go|share/man|lib/python)|/usr/local/bin/\.|.*/__pycache__(/|$)"
    r"|/var/lib/(dpkg|apt|etcd|systemd|ucf|pam|python|initramfs-tools|nftables|man-db|update-notifier)(/|$)"
    r"|/var/log/(apt|dpkg\.log|alternatives\.log|journal|wtmp|lastlog|btmp|syslog|messages|fontconfig)(/|$|\.)"
    r"|/var/log/[a-z]+\.log$|/run/[a-z]+\.pid$)")

# Programs that a cluster of ours starts on a node, whoever started them here.
PROGRAMS = re.compile(
    r"^(containerd|containerd-shim.*|coredns|docker-registry|etcd|kube-.*|kubelet|pause|qemu-system.*"
    r"|registry|runc|supervisord|virt|virt-.*|cdi-.*|local-path-prov.*|container-disk)$")

# Counters and states of the kernel that sysctl shows among its settings.
UNSETTLED = re.compile(
    r"^(kernel\.(random|ns_last_pid|pty\.nr|keys\..*_count|hostname|sched_.*|perf_.*|printk.*|tainted|threads-max"
    r"|max_lock_depth|core_.*|cad_pid)|fs\.(dentry-state|file-nr|inode-nr|inode-state|quota|aio-nr|binfmt_misc"
    r"|epoll)|net\.netfilter\.nf_conntrack_(count|buckets)|net\.(ipv4|ipv6)\.(conf|neigh)\.[^.]+\..*mtu"
    r"|vm\.(stat_refresh|compact_memory|drop_caches|nr_pdflush.*)|dev\.cdrom|net\.core\.netdev_rss_key"
    r"|net\.ipv4\.tcp_fastopen_key|net\.ipv6\.conf\.[^.]+\.stable_secret|kernel\.cap_last_cap|user\.)")


def run(*command):
    """Lines of a command's output; none where the program is missing."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return []
    return [line.rstrip() for line in result.stdout.splitlines() if line.strip()]


def processes():
    """Programs of ours by name and first arguments, and any process in a namespace of its own."""
    found = []
    own = os.readlink("/proc/self/ns/net")
    for entry in glob.glob("/proc/[0-9]*"):
        try:
            with open(entry + "/cmdline", "rb") as handle:
                arguments = handle.read().decode(errors="replace").split("\0")
            namespace = os.readlink(entry + "/ns/net")
            program, directory = os.readlink(entry + "/exe"), os.readlink(entry + "/cwd")
        except OSError:
            continue
        if not arguments[0]:
            continue
        # supervisord is a script: its name is the second word.
        names = {os.path.basename(word) for word in arguments[:2]}
        # Another's etcd is none of ours: ours name a directory of ours, or run from one.
        traces = " ".join(arguments + [program, directory])
        ours = any(PROGRAMS.match(name) for name in names) and ("edgevirt" in traces or "kube" in traces)
        if ours or namespace != own:
            found.append(" ".join(arguments[:4]))
    return found


def mounts():
    """Mount points with their file system and whether they are shared."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8") as handle:
        for line in handle:
            left, right = line.split(" - ")
            fields = left.split()
            shared = "shared" if any(word.startswith("shared:") for word in fields[6:]) else "private"
            found.append(f"{fields[4]} {right.split()[0]} {fields[3]} {shared}")
    return found


def links():
    """Links by name and master; state and counters change by themselves."""
    return [re.sub(r"^\d+: ", "", re.match(r"^(\d+: [^:@]+)", line).group(1))
            + "".join(re.findall(r" master \S+", line)) for line in run("ip", "-o", "link")]


def cgroups():
    """Every group but those of the shells that run commands here, and of services that a boot starts and ends."""
    found = []
    for root, names, _ in os.walk("/sys/fs/cgroup"):
        names[:] = [name for name in names if name not in ("process_api", "user.slice")
                    and not re.match(r"cloud-(init|init-local|config|final)\.service$", name)]
        found.extend(os.path.join(root, name) for name in names)
    return found


def sysctls():
    """Settings outside single links and neighbours of links."""
    return [line for line in run("sysctl", "-a")
            if not UNSETTLED.match(line)
            and not re.match(r"net\.(ipv4|ipv6|mpls)\.(conf|neigh)\.(?!all\.|default\.|lo\.)", line)]


def files():
    """Paths below ROOTS; for /etc with a digest of the content."""
    found = []
    for top in ROOTS:
        for root, directories, names in os.walk(top):
            directories[:] = [name for name in directories if not RESTLESS.match(os.path.join(root, name))]
            for name in directories + names:
                path = os.path.join(root, name)
                if RESTLESS.match(path):
                    continue
                digest = ""
                if top == "/etc" and os.path.isfile(path) and not os.path.islink(path):
                    with open(path, "rb") as handle:
                        digest = " " + hashlib.sha256(handle.read()).hexdigest()[:12]
                found.append(path + digest)
    return found


def packaged():
    """Paths that belong to Debian packages."""
    owned = set()
    for name in glob.glob("/var/lib/dpkg/info/*.list"):
        with open(name, encoding="utf-8", errors="replace") as handle:
            owned.update(handle.read().splitlines())
    # A package's list names what is in /usr/lib since directories were merged by its old name.
    return owned | {"/usr" + path for path in owned if path.startswith(("/bin/", "/lib/", "/sbin/"))}


def legacy_tables():
    """Names of iptables' old tables, where the kernel has any."""
    found = []
    for name in ("/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"):
        if os.path.exists(name):
            with open(name, encoding="utf-8") as handle:
                found.extend(f"{name} {line.strip()}" for line in handle)
    return found


def state():
    """The whole record."""
    return {
        "processes": processes(),
        "mounts": mounts(),
        "links": links(),
        "addresses": [re.sub(r"\s+(valid_lft|preferred_lft).*|^\d+: ", "", line)
                      for line in run("ip", "-o", "address") if " fe80" not in line],
        "routes": [line for line in run("ip", "route", "show", "table", "all") if "fe80" not in line],
        "network namespaces": sorted(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else [],
        "nft rules": [re.sub(r"packets \d+ bytes \d+", "", line) for line in run("nft", "list", "ruleset")],
        "legacy iptables": legacy_tables(),
        "cgroups": cgroups(),
        "sysctls": sysctls(),
        "files": files(),
    }


def compare(before, after):
    """Prints every difference and returns how many there are."""
    count = 0
    owned = packaged()
    for section, now in after.items():
        then, now = set(before[section]), set(now)
        gone, new = then - now, now - then
        if section == "files":
            new = {line for line in new if line.split(" ")[0] not in owned}
            gone = {line for line in gone if line.split(" ")[0] not in owned}
        if section == "sysctls":
            # A setting that was not there came with a module of the kernel, which stays.
            known = {line.partition("=")[0] for line in then}
            new = {line for line in new if line.partition("=")[0] in known}
        for line in sorted(new):
            print(f"left behind: {section}: {line}")
        for line in sorted(gone):
            # Processes end and new ones come without us; what we are asked is what stayed.
            if section != "processes":
                print(f"missing: {section}: {line}")
        count += len(new) + (len(gone) if section != "processes" else 0)
    return count


def main():
    """Entry point."""
    if len(sys.argv) != 3 or sys.argv[1] not in ("snapshot", "compare"):
        print(__doc__, file=sys.stderr)
        return 2
    verb, path = sys.argv[1:]
    if verb == "snapshot":
        with open(path, "w", encoding="utf-8") as out:
            json.dump(state(), out, indent=1)
        return 0
    with open(path, encoding="utf-8") as handle:
        before = json.load(handle)
    count = compare(before, state())
    print(f"{count} differences" if count else "no difference")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())

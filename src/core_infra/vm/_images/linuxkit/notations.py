"""The short notations of a LinuxKit file: binds, tmpfs, resource limits, capabilities.

Each is parsed by a function that raises ValueError with a sentence for the user. A file's reader
calls it to check a value, and the configuration of a container is made of what it returns.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from core_infra._host import SHORT_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CAPABILITIES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT
SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ
PERFMON BPF CHECKPOINT_RESTORE
"""
CAPABILITIES = tuple(f"CAP_{name}" for name in _CAPABILITIES.split())
"""All that Linux has, in the order of their numbers."""
UNLIMITED = (1 << 64) - 1
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
"""A container's name: it becomes a directory, and an ID of the runtime."""
VOLUME = re.compile(r"[a-z0-9_-]+")
_LIMITS = """
CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME
"""
_OCTAL = re.compile(r"0?o?[0-7]{1,4}")
_DESTINATIONS = {
    "proc": "/proc",
    "devpts": "/dev/pts",
    "sysfs": "/sys",
    "cgroup": "/sys/fs/cgroup",
    "mqueue": "/dev/mqueue",
}
PLATFORMS = tuple(f"linux/{name}" for name in SHORT_NAMES.values())
PROPAGATIONS = tuple(
    f"{more}{word}" for more in ("", "r") for word in ("shared", "slave", "private", "unbindable")
)
_OPTIONS = {
    "tmpfs": "size nr_blocks nr_inodes mode uid gid huge mpol inode32 inode64 noswap quota "
    "usrquota grpquota usrquota_block_hardlimit usrquota_inode_hardlimit "
    "grpquota_block_hardlimit grpquota_inode_hardlimit casefold strict_encoding",
    "devpts": "uid gid mode ptmxmode newinstance max",
    "proc": "gid hidepid subset pidns",
    "sysfs": "",
    "mqueue": "",
}
"""What these file systems take, besides what all of them do."""
_RECURSIVE = """
ro rw suid nosuid dev nodev exec noexec atime noatime diratime nodiratime relatime norelatime
strictatime nostrictatime symfollow nosymfollow
"""
_PLAIN = """
defaults async sync dirsync loud silent mand nomand iversion noiversion lazytime nolazytime remount
bind rbind tmpcopyup idmap ridmap copy-symlink src-nofollow dest-nofollow
"""
_FLAGS = (
    *_PLAIN.split(),
    *_RECURSIVE.split(),
    *(f"r{flag}" for flag in _RECURSIVE.split()),
    *PROPAGATIONS,
)
"""The options of runc and crun for all file systems."""
_LABELS = ("context", "fscontext", "defcontext", "rootcontext")  # of SELinux
_VALUES = {
    "size": re.compile(r"[0-9]+[kmgtpe%]?", re.IGNORECASE),
    "nr_blocks": re.compile(r"[0-9]+[kmgtpe]?", re.IGNORECASE),
    "nr_inodes": re.compile(r"[0-9]+[kmgtpe]?", re.IGNORECASE),
    **dict.fromkeys(("mode", "ptmxmode"), re.compile(r"[0-7]+")),
    **dict.fromkeys(("uid", "gid"), re.compile(r"[0-9]+")),
}
_CPUS = re.compile(r"[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*")
_INTERFACE = re.compile(r"(?!\.\.?$)[^/:\s]{1,15}")
_IPC = "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced"
_SYSCTLS = {
    "net.": "network",
    "fs.mqueue.": "ipc",
    "user.": "user",
    "kernel.domainname": "uts",
    **dict.fromkeys((f"kernel.{name}" for name in _IPC.split()), "ipc"),
}
"""The settings of the kernel, or their beginnings, that belong to a kind of namespace."""
_BIND_PARTS, _TMPFS_PARTS, _LIMIT_PARTS = (2, 3), 2, 3


def capabilities(names: Sequence[str]) -> list[str]:
    """Return the capabilities of a list, which may be the one word ``all`` or ``none``."""
    if [name.lower() for name in names] == ["none"]:
        return []
    if [name.lower() for name in names] == ["all"]:
        return list(CAPABILITIES)
    return [capability(name) for name in names]


def capability(name: str) -> str:
    """Return the name of a capability, if there is one of this name."""
    if name not in CAPABILITIES:
        upper = f"CAP_{name.upper().removeprefix('CAP_')}"
        hint = f"; did you mean {upper!r}?" if upper in CAPABILITIES else ""
        raise ValueError(f"there is no capability {name!r}{hint}")
    return name


def rlimit(text: str) -> dict[str, Any]:
    """Parse ``NAME,SOFT,HARD``."""
    parts = text.split(",")
    if len(parts) != _LIMIT_PARTS:
        raise ValueError("a limit is NAME,SOFT,HARD, for example nofile,1024,unlimited")
    name = parts[0].strip().upper().removeprefix("RLIMIT_")
    if name not in _LIMITS.split():
        raise ValueError(f"there is no limit {name!r}; there are {', '.join(_LIMITS.split())}")
    soft, hard = (_limit(part.strip()) for part in parts[1:])
    if soft > hard:
        raise ValueError(f"the soft limit {parts[1].strip()} is above the hard one")
    return {"type": f"RLIMIT_{name}", "hard": hard, "soft": soft}


def _limit(text: str) -> int:
    if text.lower() == "unlimited":
        return UNLIMITED
    if not (text.isascii() and text.isdigit()) or int(text) > UNLIMITED:
        raise ValueError(f"a limit is a number or unlimited, not {text!r}")
    return int(text)


def bind(text: str) -> dict[str, Any]:
    """Parse ``SOURCE:DESTINATION[:OPTION,…]``. The source may name a volume."""
    parts = text.split(":")
    if len(parts) not in _BIND_PARTS or not all(parts[:2]):
        raise ValueError("a bind is SOURCE:DESTINATION or SOURCE:DESTINATION:OPTIONS")
    options = [*parts[2].split(","), "rbind"] if parts[2:] else ["rw", "rbind", "rshared"]
    return _mount(parts[1], "bind", parts[0], options)


def tmpfs(text: str) -> dict[str, Any]:
    """Parse ``DESTINATION[:OPTION,…]``."""
    parts = text.split(":")
    if len(parts) > _TMPFS_PARTS or not parts[0]:
        raise ValueError("a tmpfs is DESTINATION or DESTINATION:OPTIONS")
    options = parts[1].split(",") if parts[1:] else []
    _check_options("tmpfs", options)
    return _mount(parts[0], "tmpfs", "tmpfs", options)


def mount(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry of ``mounts`` with what it leaves out: type, source or destination."""
    kind, source = fields.get("type") or "", fields.get("source") or ""
    destination = fields.get("destination") or ""
    if not kind and source in _DESTINATIONS:
        kind = source
    elif not kind and destination == "/dev":
        kind = "tmpfs"
    elif not kind:
        raise ValueError("the mount needs a type, such as bind or tmpfs")
    if not destination:
        if kind not in _DESTINATIONS:
            raise ValueError("the mount needs a destination")
        destination = _DESTINATIONS[kind]
    options = list(fields.get("options") or ())
    _check_options(kind, options)
    found = _mount(destination, kind, source or kind, options)
    for name, own in (("uidmappings", "uidMappings"), ("gidmappings", "gidMappings")):
        if fields.get(name):
            found[own] = list(fields[name])
    return found


def _check_options(kind: str, options: Sequence[str]) -> None:
    """Raise ValueError if the kernel would refuse options; of other file systems, any may do."""
    known = _OPTIONS.get(kind)
    if known is None:
        return
    for option in options:
        name, _, value = option.partition("=")
        if name and name not in (*_FLAGS, *known.split(), *_LABELS):
            raise ValueError(f"{kind} has no option {name!r}; it has {known or 'none of its own'}")
        if name in _VALUES and not _VALUES[name].fullmatch(value):
            raise ValueError(f"the option {name} of {kind} cannot be {value!r}")


def octal(text: str) -> int:
    """Parse a file's permissions."""
    if not _OCTAL.fullmatch(text):
        raise ValueError('a mode is up to four octal digits, for example "0644"')
    return int(text.replace("o", ""), 8)


def namespace(text: str, words: str = "host root new") -> str:
    """Check a namespace: a word or a path."""
    if text and text not in words.split() and not text.startswith("/"):
        raise ValueError(f"a namespace is an absolute path, or one of {words}")
    return text


def network_namespace(text: str) -> str:
    """Check a network's namespace, which may also be none: only a loopback interface."""
    return namespace(text, "host root new none")


def container_name(text: str) -> str:
    """Check the name of a container."""
    if not NAME.fullmatch(text):
        raise ValueError("a name has letters, digits and . _ - and does not begin with . or -")
    return text


def volume_name(text: str) -> str:
    """Check the name of a volume."""
    if not VOLUME.fullmatch(text):
        raise ValueError("a volume's name has lower-case letters, digits, _ and -")
    return text


def platform(text: str) -> str:
    """Return the platform of a machine, without its variant: ``linux/arm64`` of linux/arm64/v8."""
    system, _, rest = text.partition("/")
    machine = rest.partition("/")[0]
    found = f"{system}/{machine}"
    if found not in PLATFORMS:
        raise ValueError(f"the platforms of machines are {' and '.join(PLATFORMS)}")
    return found


def access(text: str) -> str:
    """Check what a rule lets a container do with a device."""
    if not set(text) <= set("rwm"):
        raise ValueError("the access has the letters r (read), w (write) and m (mknod)")
    return text


def cpu_list(text: str) -> str:
    """Check a list of processors or memory nodes."""
    if text and not _CPUS.fullmatch(text):
        raise ValueError("a list of processors or nodes has numbers and ranges, for example 0-3,5")
    return text


def interface(fields: Mapping[str, Any]) -> None:
    """Check a network interface that a container gets."""
    name, add = fields.get("name") or "", fields.get("add")
    if not _INTERFACE.fullmatch(name):
        raise ValueError("the interface needs a name of up to 15 characters, without / and spaces")
    if add == "veth" and not fields.get("peer"):
        raise ValueError("an interface of the kind veth needs a peer")


def sysctl_namespace(name: str) -> str:
    """Return the kind of namespace that a kernel's setting belongs to.

    Raises:
        ValueError: it belongs to none. A runtime refuses it: it would change the whole machine.
    """
    dotted = name if "/" not in name.split(".", maxsplit=1)[0] else name.replace("/", ".")
    for start, kind in _SYSCTLS.items():
        if dotted == start or (start.endswith(".") and dotted.startswith(start)):
            return kind
    if dotted == "kernel.hostname":
        raise ValueError("it cannot be set in a container; use the field hostname")
    raise ValueError(
        "it cannot be set in a container; there are net.…, fs.mqueue.…, user.…, "
        "kernel.domainname, and kernel.shm…, msg… and sem"
    )


def _mount(destination: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"destination": destination, "type": kind, "source": source}
    return found | ({"options": options} if options else {})

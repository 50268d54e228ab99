"""The short notations of a LinuxKit file: binds, tmpfs, resource limits, capabilities.

Each is parsed by a function that raises ValueError with a sentence for the user. A file's reader
calls it to check a value, and the configuration of a container is made of what it returns.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

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
    return _mount(parts[0], "tmpfs", "tmpfs", parts[1].split(",") if parts[1:] else [])


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
    found = _mount(destination, kind, source or kind, list(fields.get("options") or ()))
    for name, own in (("uidmappings", "uidMappings"), ("gidmappings", "gidMappings")):
        if fields.get(name):
            found[own] = list(fields[name])
    return found


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


def _mount(destination: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"destination": destination, "type": kind, "source": source}
    return found | ({"options": options} if options else {})

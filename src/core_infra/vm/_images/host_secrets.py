"""What of this host is private, even if every user may read it.

Rights keep most secrets apart: a file that not every user may read stays out of an image in any
case. This is for the others: what belongs to this host alone, and keys and passwords in files whose
rights are too wide, which a copy would carry further.
"""

from __future__ import annotations

import os
import re
import stat

BELONGS_HERE = "it is private to this host"
HOLDS_KEY = "it holds a private key or a password"

_PRIVATE = (
    *(b"etc/shadow", b"etc/gshadow", b"etc/ssl/private", b"etc/apt/auth.conf", b"etc/sudoers"),
    *(b"etc/ssh/ssh_host_", b"etc/krb5.keytab", b"etc/wireguard", b"etc/NetworkManager"),
    *(b"etc/machine-id", b"etc/hostname", b"etc/mailname", b"etc/fstab"),
    *(b"etc/crypttab", b"etc/resolv.conf", b"etc/netplan", b"etc/cloud/cloud.cfg.d"),
)
_EXACTLY = frozenset({b"etc/hosts"})  # and not hosts.allow
# Where an administrator writes: packages have keys for tests and documentation elsewhere.
_OWN = (b"etc/", b"opt/", b"usr/local/")
_NAMES = frozenset(
    {
        *(b".ssh", b".gnupg", b".aws", b".azure", b".kube", b".docker", b".netrc", b"netrc"),
        *(b".git-credentials", b".pgpass", b".my.cnf", b".pypirc", b".npmrc", b"npmrc"),
        *(b".bash_history", b".htpasswd", b"auth.json"),
    }
)
_ENVIRONMENT = b".env"  # of a service; as a directory it has Python programs
_STORES = (
    b".p12",
    b".pfx",
    b".jks",
    b".keystore",
    b".kdbx",
    b".ppk",
)  # keys in formats of binaries
_READ = (
    b".key",
    b".pem",
    b".conf",
    b".cfg",
    b".ini",
    b".json",
    b".yaml",
    b".yml",
    b".toml",
    b".ovpn",
)
_LARGEST = 256 << 10
# Not in a comment: examples there have passwords that nobody uses.
_SECRET = re.compile(
    rb"^(?![ \t]*[#;]).*?"
    rb"(?:-----BEGIN [A-Z0-9 ]*PRIVATE KEY|\bclient-key-data:|[a-z]://[^/\s:@\"']+:[^/\s@\"']+@)",
    re.MULTILINE,
)


def why_private(path: bytes, *, top: bytes = b"/") -> str:
    """Return why a path of this host is private; empty if it is not.

    Args:
        path: the path, relative to *top*.
        top: the directory that is the root.
    """
    if path.startswith(_PRIVATE) or path in _EXACTLY:
        return BELONGS_HERE
    if not path.startswith(_OWN):
        return ""
    name = path.rpartition(b"/")[2]
    real = os.path.join(top, path)  # noqa: PTH118 - bytes
    if name in _NAMES or name.endswith(_STORES):
        return BELONGS_HERE
    if name == _ENVIRONMENT and not os.path.isdir(real):  # noqa: PTH112 - bytes
        return BELONGS_HERE
    if path.startswith(b"etc/") or name.endswith(_READ):
        return HOLDS_KEY if _holds_secret(real) else ""
    return ""


def _holds_secret(path: bytes) -> bool:
    try:
        # A pipe would wait for a writer, and a link is copied as a link.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
            return False
        return _SECRET.search(os.read(fd, _LARGEST)) is not None
    finally:
        os.close(fd)

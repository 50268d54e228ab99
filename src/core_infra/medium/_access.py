"""Keeps owner and permissions of a file when a new version replaces it.

The owner, the group, the permission bits, the access control list and the other extended
attributes (xattr(7)) are copied to the new version, as far as the system allows it. The new version
never grants more than the old one: if the group cannot be kept, the new group gets only the
permissions of others, as in Vim.
"""

# The order of the system calls is the point.

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct

_STATUS = "/proc/self/status"
_ACL = "system.posix_acl_access"
_OF_THE_CONTENT = {"security.capability", "security.ima", "security.evm"}
"""Attributes that are valid only for the old content."""
_EXTENDED = hasattr(os, "listxattr")  # Linux

# The form of an access control list as an attribute, see linux/posix_acl_xattr.h.
_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_OWNER, _GROUP, _MASK, _OTHERS = 0x01, 0x04, 0x10, 0x20


def keep_access(fd: int, directory: int, name: str, old: os.stat_result, mode: int | None) -> None:
    """Copy owner, permissions and attributes of a file to its new version.

    Args:
        fd: the new version, which only its owner may open so far.
        directory: descriptor of the directory that the old version is in.
        name: the old version's name there.
        old: its status.
        mode: the new permission bits; None keeps the old ones.
    """
    kept = _keep_owner(fd, old)
    if mode is None:
        mode = old.st_mode & 0o777
        if not kept:
            mode &= 0o707 | (mode & 0o007) << 3
    attributes = _attributes(directory, name) if _EXTENDED else {}
    acl = attributes.pop(_ACL, None)
    for attribute, value in attributes.items():
        if attribute not in _OF_THE_CONTENT:
            # Not all users may set all of them, and not all file systems support them.
            with contextlib.suppress(OSError):
                os.setxattr(fd, attribute, value)
    if acl is not None:
        with contextlib.suppress(OSError):
            os.setxattr(fd, _ACL, _with_mode(acl, mode))  # sets the permission bits as well
            return
    if _EXTENDED:
        _drop_inherited_acl(fd)
    os.fchmod(fd, mode & 0o777)


def give_access_of_new(fd: int, directory: int) -> None:
    """Give a file that was made elsewhere the group and the permissions of a new one here.

    Args:
        fd: the file, which only its owner may open so far.
        directory: descriptor of the directory; its default access control list is not applied.
    """
    above = os.fstat(directory)
    if above.st_mode & stat.S_ISGID:
        os.fchown(fd, -1, above.st_gid)
    os.fchmod(fd, 0o666 & ~_umask())


def _umask() -> int:
    """The umask; os.umask() would change it for all threads meanwhile."""
    with contextlib.suppress(OSError), open(_STATUS, encoding="ascii") as status:  # noqa: PTH123 - as all here
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o077


def _keep_owner(fd: int, old: os.stat_result) -> bool:
    """Restore owner and group; return whether the group is the old one now."""
    new = os.fstat(fd)
    if (new.st_uid, new.st_gid) == (old.st_uid, old.st_gid):
        return True
    for uid in (old.st_uid, -1):
        with contextlib.suppress(PermissionError):
            os.fchown(fd, uid, old.st_gid)
            return True
    return new.st_gid == old.st_gid


def _attributes(directory: int, name: str) -> dict[str, bytes]:
    # O_PATH needs no read permission. Such a descriptor works only through its path in /proc.
    found = {}
    with contextlib.suppress(OSError):
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
        try:
            path = f"/proc/self/fd/{fd}"
            for attribute in os.listxattr(path):
                with contextlib.suppress(OSError):  # just removed, or not readable for this user
                    found[attribute] = os.getxattr(path, attribute)
        finally:
            os.close(fd)
    return found


def _drop_inherited_acl(fd: int) -> None:
    """Remove the list that the directory gives to all new files: the old version had none."""
    try:
        os.removexattr(fd, _ACL)
    except OSError as error:
        if error.errno not in {errno.ENODATA, errno.ENOTSUP, errno.EPERM}:
            raise


def _with_mode(acl: bytes, mode: int) -> bytes:
    """Put permission bits into an access control list, as chmod does."""
    entries = list(_ENTRY.iter_unpack(acl[_HEADER.size :]))
    masked = any(tag == _MASK for tag, _, _ in entries)
    bits = {
        _OWNER: mode >> 6 & 7,
        _MASK if masked else _GROUP: mode >> 3 & 7,
        _OTHERS: mode & 7,
    }
    packed = (_ENTRY.pack(tag, bits.get(tag, can), who) for tag, can, who in entries)
    return acl[: _HEADER.size] + b"".join(packed)

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
import struct

_ACL = "system.posix_acl_access"
_OF_THE_CONTENT = {"security.capability", "security.ima", "security.evm"}
"""Attributes that are valid only for the old content."""
_EXTENDED = hasattr(os, "listxattr")  # Linux

# The form of an access control list as an attribute, see linux/posix_acl_xattr.h.
_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_OWNER, _GROUP, _MASK, _OTHERS = 0x01, 0x04, 0x10, 0x20


def keep_access(
    fd: int, old: os.stat_result, attributes: dict[str, bytes], mode: int | None = None
) -> None:
    """Copy owner, permissions and attributes of a file to its new version.

    Args:
        fd: the new version, which only its owner may open so far.
        old: the status of the old version.
        attributes: its extended attributes.
        mode: the new permission bits; None keeps the old ones.
    """
    kept = _keep_owner(fd, old)
    if mode is None:
        mode = old.st_mode & 0o777
        if not kept:
            mode &= 0o707 | (mode & 0o007) << 3
    acl = attributes.get(_ACL)
    for attribute, value in attributes.items():
        if attribute not in {_ACL, *_OF_THE_CONTENT}:
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


def attributes_of(name: str, directory: int) -> dict[str, bytes]:
    """The extended attributes of a file that may not be readable, by its name in a directory."""
    if not _EXTENDED:
        return {}
    # O_PATH needs no read permission. Such a descriptor works only through its path in /proc.
    with contextlib.suppress(OSError):
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
        try:
            return _attributes(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
    return {}


def attributes_of_open(fd: int) -> dict[str, bytes]:
    """The extended attributes of an open file."""
    return _attributes(fd) if _EXTENDED else {}


def _attributes(file: str | int) -> dict[str, bytes]:
    found = {}
    with contextlib.suppress(OSError):
        for attribute in os.listxattr(file):
            with contextlib.suppress(OSError):  # just removed, or not readable for this user
                found[attribute] = os.getxattr(file, attribute)
    return found


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

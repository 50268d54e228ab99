"""Extended attributes as ext4 stores them: in the inode if they fit, else in a block.

The format: Linux's ``fs/ext4/xattr.h`` and ``fs/ext4/acl.h``.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from core_infra.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAGIC = 0xEA020000
_ENTRY = struct.Struct("<BBHIII")
_HEADER = struct.Struct("<IIII16x")
_ACLS = {b"system.posix_acl_access": 2, b"system.posix_acl_default": 3}
_PREFIXES = {b"user.": 1, b"trusted.": 4, b"security.": 6, b"system.": 7}
_ACL_VERSION = 1
_NAMED = (0x02, 0x08)  # the entries of an access control list that have an id
_MASK = (1 << 32) - 1


class _Attribute(NamedTuple):
    prefix: int
    name: bytes
    value: bytes

    @property
    def size(self) -> int:
        return _ENTRY.size + _padded(len(self.name)) + _padded(len(self.value))


def in_inode(xattrs: Mapping[bytes, bytes], room: int) -> bytes | None:
    """Return *room* bytes of an inode that hold all attributes; None if they do not fit."""
    attributes = _attributes(xattrs)
    if 4 + sum(attribute.size for attribute in attributes) + 4 > room:
        return None
    # The kernel leaves the hashes in an inode at 0, too: nothing is shared there.
    return struct.pack("<I", _MAGIC) + _packed(attributes, room - 4, base=0, hashed=False)


def in_block(xattrs: Mapping[bytes, bytes], size: int) -> bytes:
    """Return a block that holds all attributes.

    Raises:
        InvalidError: they do not fit.
    """
    attributes = _attributes(xattrs)
    needed = _HEADER.size + sum(attribute.size for attribute in attributes) + 4
    if needed > size:
        raise InvalidError(
            "the extended attributes of a file are too large",
            why=f"they take {needed} bytes ({b', '.join(xattrs).decode(errors='replace')}), "
            f"and ext4 holds {size}",
        )
    total = 0
    for attribute in attributes:
        total = (total << 16 ^ total >> 16 ^ _hash(attribute)) & _MASK
    packed = _packed(attributes, size - _HEADER.size, base=_HEADER.size, hashed=True)
    return _HEADER.pack(_MAGIC, 1, 1, total) + packed


def _attributes(xattrs: Mapping[bytes, bytes]) -> list[_Attribute]:
    """Return the attributes in the order that the kernel looks them up by."""
    found = []
    for name, value in xattrs.items():
        if name in _ACLS:
            found.append(_Attribute(_ACLS[name], b"", _acl(value)))
            continue
        prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None)
        if prefix is None:
            raise InvalidError(
                f"the extended attribute {name.decode(errors='replace')!r} cannot be kept",
                why=f"ext4 has those that begin with {b', '.join(_PREFIXES).decode()}",
            )
        found.append(_Attribute(_PREFIXES[prefix], name.removeprefix(prefix), value))
    return sorted(found, key=lambda one: (one.prefix, len(one.name), one.name))


def _packed(attributes: list[_Attribute], room: int, *, base: int, hashed: bool) -> bytes:
    """Return entries from the front, values from the back; *base* is added to their offsets."""
    result = bytearray(room)
    front, back = 0, room
    for attribute in attributes:
        back -= _padded(len(attribute.value))
        result[back : back + len(attribute.value)] = attribute.value
        offset = base + back if attribute.value else 0
        hash_ = _hash(attribute) if hashed else 0
        name = attribute.name
        _ENTRY.pack_into(
            result, front, len(name), attribute.prefix, offset, 0, len(attribute.value), hash_
        )
        result[front + _ENTRY.size : front + _ENTRY.size + len(name)] = name
        front += _ENTRY.size + _padded(len(name))
    return bytes(result)


def _hash(attribute: _Attribute) -> int:
    """Return what the kernel finds shared blocks by: of a name, then of a value in 32-bit words."""
    result = 0
    for byte in attribute.name:
        result = (result << 5 ^ result >> 27 ^ byte) & _MASK
    value = attribute.value + bytes(-len(attribute.value) % 4)
    for (word,) in struct.iter_unpack("<I", value):
        result = (result << 16 ^ result >> 16 ^ word) & _MASK
    return result


def _acl(value: bytes) -> bytes:
    """Return an access control list as the disk has it, from what ``getxattr`` returns."""
    if len(value) % 8 != 4:  # noqa: PLR2004 - a head, and entries of 8 bytes
        raise InvalidError("an access control list is damaged", why=f"it has {len(value)} bytes")
    result = bytearray(struct.pack("<I", _ACL_VERSION))
    for tag, permissions, owner in struct.iter_unpack("<HHI", value[4:]):
        result += struct.pack("<HH", tag, permissions)
        if tag in _NAMED:
            result += struct.pack("<I", owner)
    return bytes(result)


def _padded(size: int) -> int:
    return size + 3 & ~3

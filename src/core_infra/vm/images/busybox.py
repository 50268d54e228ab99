"""What is known of the program busybox: the names in it, and what must be mended."""

from __future__ import annotations

import re

from core_infra.errors import InvalidError

# The options of its wget, as getopt has them, and what is there of -T where that is implemented.
_WGET_OPTION = re.compile(rb"(?<=:P:Y:U:)T(?=:\+t:n::)")
_WGET_TIMEOUT = b"\0timeout\0\1T"
_NO_OPTION = b"\1"  # a character that nobody types


def applets(busybox: bytes) -> list[str]:
    """The names of the programs inside busybox, for whatever machine it is.

    They stand in it in one table, sorted, each ended by a zero byte and all by another.

    Raises:
        InvalidError: there is no such table.
    """
    start = busybox.find(b"[\0[[\0")  # its first two names
    end = busybox.find(b"\0\0", start)
    names = busybox[start:end].decode("ascii", "replace").split("\0")
    if start < 0 or not {"busybox", "init", "modprobe", "mount", "sh"} <= set(names):
        raise InvalidError("The file is no busybox that a guest can start with")
    return [name for name in names if name != "busybox"]


def mended(busybox: bytes) -> bytes:
    """The same program without the option of it that ends in a segmentation fault.

    Debian 12 builds wget without timeouts, where this version takes -T and writes its value to
    address 0. Without -T in its table of options it says that there is no such option.
    """
    if _WGET_TIMEOUT in busybox:
        return busybox
    return _WGET_OPTION.sub(_NO_OPTION, busybox)

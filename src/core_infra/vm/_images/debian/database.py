"""Dpkg's database for packages that are unpacked and not configured.

This is what ``dpkg --unpack`` leaves: ``dpkg --configure -a`` continues from there. The format is
that of dpkg's ``lib/dpkg``; of triggers, its ``doc/triggers.txt``.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError
from core_infra.vm._images.disk.tree import add_file, append_file, make_directory, split

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from core_infra.vm._images.disk.tree import Node

_PLACE = "var/lib/dpkg"
_FIRST_FIELD = re.compile(r"^(Package: .*\n)", re.MULTILINE)
_SCRIPTS = ("preinst", "postinst", "prerm", "postrm", "config")
_FIXED = {
    "available": b"",
    "diversions": b"",
    "info/format": b"1\n",
    "lock": b"",
    "statoverride": b"",
    "triggers/File": b"",
    "triggers/Lock": b"",
    "triggers/Unincorp": b"",
}


@dataclass(frozen=True)
class Unpacked:
    """A package, unpacked.

    Attributes:
        archive: its files, as a tar archive.
        members: the files of its control archive by name.
        fields: those of its control file that are needed.
    """

    archive: Path
    members: dict[str, bytes]
    fields: dict[str, str]

    @property
    def name(self) -> str:
        """The package's name."""
        return self.fields["Package"]

    @property
    def stem(self) -> str:
        """What the names of its files in dpkg's database begin with."""
        if self.fields.get("Multi-Arch") == "same":
            return f"{self.name}:{self.fields['Architecture']}"
        return self.name

    def field(self, name: str) -> str:
        """A field of its control file on one line; empty if it is not there."""
        return self.fields.get(name, "")


def add_database(root: Node, unpacked: Sequence[Unpacked]) -> None:
    """Add dpkg's database to a tree that holds the files of packages.

    Raises:
        InvalidError: two packages have the same file.
    """
    owners: dict[str, Unpacked] = {}
    for one in unpacked:
        paths, sums = _contents(one, owners)
        info = f"{_PLACE}/info/{one.stem}"
        add_file(root, f"{info}.list", "".join(f"{path}\n" for path in paths).encode())
        for name, data in one.members.items():
            if name != "control":
                add_file(root, f"{info}.{name}", data, 0o755 if name in _SCRIPTS else 0o644)
        text = _stanza(one, sums).encode(errors="surrogateescape")
        append_file(root, f"{_PLACE}/status", text + b"\n")
        for kind, what in _interests(one):
            package = one.stem + ("/noawait" if kind.endswith("noawait") else "")
            if what.startswith("/"):
                append_file(root, f"{_PLACE}/triggers/File", f"{what} {package}\n".encode())
            else:
                append_file(root, f"{_PLACE}/triggers/{what}", f"{package}\n".encode())
    for name, data in _FIXED.items():
        append_file(root, f"{_PLACE}/{name}", data)
    for name in ("updates", "parts", "alternatives"):
        make_directory(root, split(f"{_PLACE}/{name}".encode()))


def _contents(one: Unpacked, owners: dict[str, Unpacked]) -> tuple[list[str], list[str]]:
    """Return the paths of a package's files, and the lines with its conffiles' digests."""
    conffiles = _conffiles(one)
    paths, sums = [], []
    with tarfile.open(one.archive, "r:") as archive:
        for entry in archive:
            path = "/" + entry.name.removeprefix("./").strip("/")
            paths.append("/." if path == "/" else path)
            if not entry.isdir():
                _check_owner(owners, path, one)
            if path in conffiles and entry.isreg():
                content = archive.extractfile(entry)
                data = b"" if content is None else content.read()
                sums.append(f" {path} {hashlib.md5(data, usedforsecurity=False).hexdigest()}")
    return paths, sums


def _stanza(one: Unpacked, sums: list[str]) -> str:
    text = one.members["control"].decode(errors="surrogateescape").strip("\n") + "\n"
    text = _FIRST_FIELD.sub(r"\1Status: install ok unpacked\n", text, count=1)
    if sums:
        text += "Conffiles:\n" + "".join(f"{line}\n" for line in sums)
    return text


def _conffiles(one: Unpacked) -> set[str]:
    lines = one.members.get("conffiles", b"").decode().splitlines()
    # A line may begin with a flag: remove-on-upgrade is of a file that is no longer there.
    return {line.strip() for line in lines if line.startswith("/")}


def _interests(one: Unpacked) -> list[tuple[str, str]]:
    text = one.members.get("triggers", b"").decode()
    return re.findall(r"^(interest(?:-await|-noawait)?)\s+(\S+)", text, re.MULTILINE)


def _check_owner(owners: dict[str, Unpacked], path: str, one: Unpacked) -> None:
    """Raise InvalidError if another package has the same file and may not be replaced."""
    merged = re.sub(r"^/(bin|sbin|lib\w*)/", r"/usr/\1/", path)
    other = owners.setdefault(merged, one)
    if other is not one and not _replaces(one, other) and not _replaces(other, one):
        raise InvalidError(
            f"the packages {other.name} and {one.name} cannot be unpacked together",
            why=f"both have the file {path}",
        )


def _replaces(one: Unpacked, other: Unpacked) -> bool:
    replaced = {part.strip().partition(" ")[0] for part in one.field("Replaces").split(",")}
    provided = {part.strip().partition(" ")[0] for part in other.field("Provides").split(",")}
    return bool(replaced & ({other.name} | provided - {""}))

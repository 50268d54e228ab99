"""Compares two builds, and finds the first member and field that differs."""

from __future__ import annotations

import itertools
import json
import posixpath
import struct
from typing import TYPE_CHECKING, NamedTuple

from core_infra.build._archives.contents import CHUNK, hash_file
from core_infra.build._archives.reader import is_archive, member_chunks, read_archive
from core_infra.build._documents.checksums import CHECKSUMS
from core_infra.build._documents.manifest import MANIFEST
from core_infra.build._documents.provenance import ENVELOPE, PROVENANCE
from core_infra.build._documents.sbom import SBOM
from core_infra.build._errors import ArchiveError
from core_infra.build._signing.gpg import EXTENSION as GPG_EXTENSION
from core_infra.build._signing.key import EXTENSION as KEY_EXTENSION
from core_infra.build._signing.sigstore import EXTENSION as SIGSTORE_EXTENSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from core_infra.build._archives.reader import ArchiveMember
    from core_infra.medium._medium import Medium

_FIELDS = ("mode", "link", "content", "modified", "owner")
_SIGNATURES = (GPG_EXTENSION, KEY_EXTENSION, SIGSTORE_EXTENSION)
_OF_ONE_RUN = {ENVELOPE, *(CHECKSUMS + extension for extension in _SIGNATURES)}
"""Signatures contain the time, or a random number."""
_DOCUMENTS = {CHECKSUMS, MANIFEST, PROVENANCE, SBOM, *_OF_ONE_RUN}
_SHOWN = 8
_GZIP_HEADER = 10


class Difference(NamedTuple):
    """The first difference between two builds.

    ``str()`` returns it as one line: ``app.tar.gz: app/main: modified: 1980-… / 2026-…``.

    Attributes:
        file: the file, relative to the compared directories.
        member: the member of an archive; empty for a plain file.
        field: mode, link, content, modified, owner, order, packing, or existence.
        one: the value of the first build.
        other: the value of the second build.
    """

    file: str
    member: str
    field: str
    one: str
    other: str

    def __str__(self) -> str:
        where = ": ".join(filter(None, (self.file, self.member)))
        return f"{where}: {self.field}: {self.one} / {self.other}"


class Side(NamedTuple):
    """One side of a comparison: a path on a medium.

    Attributes:
        medium: the medium.
        path: the file, archive or directory.
    """

    medium: Medium
    path: str


def first_difference(one: Side, other: Side) -> Difference | None:
    """Compare two files, archives or directories; None if they are equal.

    Archives with different bytes are compared by their members, and if these are equal, by how they
    are packed.

    Raises:
        CoreInfraError: a file cannot be read.
    """
    name = posixpath.basename(posixpath.normpath(one.path))
    return _compare(one, other, name)


def _compare(one: Side, other: Side, name: str) -> Difference | None:
    kinds = [side.medium.stat(side.path).is_dir for side in (one, other)]
    if kinds[0] != kinds[1]:
        words = ["directory" if is_dir else "file" for is_dir in kinds]
        return Difference(name, "", "mode", *words)
    if kinds[0]:
        return _compare_directories(one, other, name)
    executable = [bool(side.medium.stat(side.path).mode & 0o111) for side in (one, other)]
    if executable[0] != executable[1]:
        words = ["executable" if bit else "not executable" for bit in executable]
        return Difference(name, "", "mode", *words)
    if _digest(one) == _digest(other) or _differ_in_run_only(one, other, name):
        return None
    if is_archive(name):
        try:
            return _compare_archives(one, other, name)
        except ArchiveError:
            pass  # not an archive in spite of its name: compare its bytes
    return Difference(name, "", "content", *_first_bytes(_chunks(one), _chunks(other)))


def _compare_directories(one: Side, other: Side, name: str) -> Difference | None:
    names = [set(side.medium.list(side.path)) for side in (one, other)]
    # Documents differ as soon as the files that they describe do: report the cause first.
    for inner in sorted(names[0] | names[1], key=lambda name: (name in _DOCUMENTS, name)):
        path = f"{name}/{inner}"
        if inner in _OF_ONE_RUN and all(inner in side for side in names):
            continue
        if inner not in names[0] or inner not in names[1]:
            there = [("there" if inner in side else "missing") for side in names]
            return Difference(path, "", "existence", *there)
        sides = [Side(side.medium, posixpath.join(side.path, inner)) for side in (one, other)]
        if difference := _compare(sides[0], sides[1], path):
            return difference
    return None


def _compare_archives(one: Side, other: Side, file: str) -> Difference:
    lists = [read_archive(side.medium, side.path) for side in (one, other)]
    for first, second in itertools.zip_longest(*(_by_name(members) for members in lists)):
        if first is None or second is None or first.name != second.name:
            lone = min(filter(None, (first, second)), key=lambda packed: packed.name)
            there = ("there", "missing") if lone is first else ("missing", "there")
            return Difference(file, lone.name, "existence", *there)
        if difference := _compare_members(first, second, file, (one, other)):
            return difference
    for place, (first, second) in enumerate(zip(*lists, strict=True)):
        if first.name != second.name:
            return Difference(file, f"member {place + 1}", "order", first.name, second.name)
    return _packing(one, other, file)


def _compare_members(
    first: ArchiveMember, second: ArchiveMember, file: str, sides: tuple[Side, Side]
) -> Difference | None:
    for field in _FIELDS:
        if field == "content":
            if (first.size, first.sha256) == (second.size, second.sha256):
                continue
            streams = (member_chunks(side.medium, side.path, first.name) for side in sides)
            return Difference(file, first.name, field, *_first_bytes(*streams))
        values = [getattr(packed, field) for packed in (first, second)]
        if values[0] != values[1]:
            words = [f"{value:o}" if field == "mode" else str(value) for value in values]
            return Difference(file, first.name, field, *words)
    return None


def _packing(one: Side, other: Side, file: str) -> Difference:
    """Compare two archives with equal members."""
    heads = [next(_chunks(side), b"")[:_GZIP_HEADER] for side in (one, other)]
    if all(head.startswith(b"\x1f\x8b") for head in heads):
        times = [struct.unpack("<I", head[4:8])[0] for head in heads]
        if times[0] != times[1]:
            words = [f"gzip header's time {time}" for time in times]
            return Difference(file, "", "packing", *words)
    return Difference(file, "", "packing", *_first_bytes(_chunks(one), _chunks(other)))


def _differ_in_run_only(one: Side, other: Side, name: str) -> bool:
    base = posixpath.basename(name)
    documents = base in {PROVENANCE, CHECKSUMS}
    return documents and _without_run(one, base) == _without_run(other, base)


def _without_run(side: Side, name: str) -> object:
    """A document without what differs between two runs: times, and the checksum of these."""
    data = side.medium.read_bytes(side.path)
    if name == CHECKSUMS:
        ends = (PROVENANCE.encode(), ENVELOPE.encode())
        return [line for line in data.splitlines() if not line.endswith(ends)]
    try:
        del (statement := json.loads(data))["predicate"]["runDetails"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return data
    return statement


def _by_name(members: list[ArchiveMember]) -> list[ArchiveMember]:
    return sorted(members, key=lambda packed: packed.name)


def _digest(side: Side) -> str:
    with side.medium.open(side.path) as file:
        return hash_file(file)


def _chunks(side: Side) -> Iterator[bytes]:
    with side.medium.open(side.path) as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _first_bytes(one: Iterable[bytes], other: Iterable[bytes]) -> tuple[str, str]:
    """The position and bytes of the first difference; both streams have chunks of one size."""
    offset = 0
    for first, second in itertools.zip_longest(one, other, fillvalue=b""):
        if first != second:
            pairs = enumerate(itertools.zip_longest(first, second))
            at = next(index for index, (left, right) in pairs if left != right)
            words = [chunk[at : at + _SHOWN].hex(" ") or "the end" for chunk in (first, second)]
            return f"at byte {offset + at}: {words[0]}", words[1]
        offset += len(first)
    return "the same", "the same"

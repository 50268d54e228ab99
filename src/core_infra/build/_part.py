"""A part of a release: made by ``--split`` on one host of several, merged by ``--merge`` on one.

A part is a directory with archives and ``part.json``, which has all that the documents of the
release need, and what the whole release consists of. Nothing of a part is trusted before it has
been compared with this file, and the parts with each other.
"""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_infra.build._archives.contents import hash_file
from core_infra.build._artifact import Artifact
from core_infra.errors import CoreInfraError, InvalidError, NotFoundError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


PART = "part.json"
PROGRAMS = "programs"
"""The directory with the programs of a part, for what is made of several parts."""
_FORMAT = 1
_SIZE_MAX = 64 << 20
_COMMON = (
    "name",
    "version",
    "commit",
    "snapshot",
    "epoch",
    "configuration",
    "sources",
    "core_infra",
)
"""What all parts of a release have in common."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a release.

    Attributes:
        directory: where it is.
        common: what all parts of a release have in common: version, commit, configuration.
        whole: what the parts of the whole release are made for, by the name of the build.
        units: what this part was made for, by the name of the build.
        artifacts: its archives, with their checksums.
        programs: programs that are needed to merge it, by the name of the build.
        accounts: what the documents say of its builds, as JSON, by their names.
    """

    directory: Path
    common: Mapping[str, Any]
    whole: Mapping[str, tuple[str, ...]]
    units: Mapping[str, tuple[str, ...]]
    artifacts: tuple[Artifact, ...]
    programs: tuple[tuple[str, Artifact], ...]
    accounts: Mapping[str, Mapping[str, Any]]

    @property
    def files(self) -> Iterator[Artifact]:
        """All its files."""
        yield from self.artifacts
        yield from (program for _, program in self.programs)

    def check_files(self) -> None:
        """Check that its files are those that were made.

        Raises:
            InvalidError: one is missing, altered or was not made.
        """
        wrong = []
        for file in self.files:
            name = posixpath.relpath(file.path, self.directory)
            try:
                with Path(file.path).open("rb") as opened:
                    found = hash_file(opened)
            except OSError as error:
                wrong.append(f"{name}: {error.strerror}")
                continue
            if found != file.checksum:
                wrong.append(f"{name}: it is {found}, not {file.checksum}")
        known = {Path(file.path).name for file in self.artifacts} | {PART}
        others = sorted(one.name for one in self.directory.iterdir() if not one.is_dir())
        wrong += [f"{name}: it is not in {PART}" for name in others if name not in known]
        if wrong:
            raise InvalidError(
                f"the part {self.directory} is not what was made",
                why="\n  ".join(["", *wrong]) if wrong[1:] else wrong[0],
                todo="Download it again, or make it again with --split.",
                path=str(self.directory),
            )


def write_part(
    directory: Path,
    part: Part,
) -> Path:
    """Write ``part.json`` beside the files of a part, and return its path."""
    path = directory / PART
    data = {
        "format": _FORMAT,
        "common": dict(part.common),
        "whole": {name: list(units) for name, units in part.whole.items()},
        "units": {name: list(units) for name, units in part.units.items()},
        "artifacts": [_file(one, directory) for one in part.artifacts],
        "programs": [{"build": build, **_file(one, directory)} for build, one in part.programs],
        "accounts": dict(part.accounts),
    }
    path.write_text(json.dumps(data, indent=2) + "\n")  # in the order of the builds
    return path


def _file(artifact: Artifact, directory: Path) -> dict[str, str]:
    path = Path(artifact.path).relative_to(directory).as_posix()
    names = ("os", "arch", "checksum", "content")
    return {"path": path, **{name: getattr(artifact, name) for name in names}}


def find_parts(directories: Iterable[str | Path]) -> list[Path]:
    """The directories with parts: the given ones, or their subdirectories.

    Raises:
        NotFoundError: one has no part.
    """
    found: dict[Path, None] = {}
    for one in map(Path, directories):
        inner = sorted(path.parent for path in one.glob(f"*/{PART}"))
        parts = [one] if (one / PART).is_file() else inner
        if not parts:
            raise NotFoundError(
                f"{one} is not a part of a release",
                why=f"neither it nor a directory in it has {PART}",
                todo="Make parts with core-infra release --split … --no-dry-run.",
                path=str(one),
            )
        found.update(dict.fromkeys(path.absolute() for path in parts))
    return list(found)


def read_part(directory: Path) -> Part:
    """Read a part.

    Raises:
        InvalidError: it is malformed.
        UnavailableError: it cannot be read.
    """
    path = directory / PART
    try:
        with path.open("rb") as file:
            data = json.loads(file.read(_SIZE_MAX))
        if data["format"] != _FORMAT:
            raise _malformed(path, f"its format is {data['format']!r}, not {_FORMAT}")
        return Part(
            directory=directory,
            common={name: data["common"][name] for name in _COMMON},
            whole={str(name): tuple(map(str, one)) for name, one in data["whole"].items()},
            units={str(name): tuple(map(str, one)) for name, one in data["units"].items()},
            artifacts=tuple(_read_file(one, directory, path) for one in data["artifacts"]),
            programs=tuple(
                (str(one["build"]), _read_file(one, directory, path)) for one in data["programs"]
            ),
            accounts={str(name): dict(one) for name, one in data["accounts"].items()},
        )
    except OSError as error:
        if isinstance(error, CoreInfraError):
            raise
        raise UnavailableError(f"cannot read {path}", why=error.strerror or "") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, CoreInfraError):
            raise
        raise _malformed(path, f"{type(error).__name__}: {error}") from error


def _read_file(data: Mapping[str, Any], directory: Path, path: Path) -> Artifact:
    name = str(data["path"])
    depth = 1 if name.count("/") == 0 else 4
    parts = Path(name).parts
    inside = len(parts) == 1 or (parts[0] == PROGRAMS and len(parts) == depth)
    if not inside or ".." in parts or name.startswith("/"):
        raise _malformed(path, f"{name!r} is not the name of a file in it")
    system, arch, digest, content = (
        str(data[key]) for key in ("os", "arch", "checksum", "content")
    )
    return Artifact(str(directory / name), system, arch, digest, content)


def _malformed(path: Path, why: str) -> InvalidError:
    return InvalidError(f"{path} is not the description of a part", why=why, path=str(path))


def part_problems(parts: Sequence[Part], common: Mapping[str, Any]) -> list[str]:
    """Why parts do not make up one release, one sentence each.

    Args:
        parts: the parts.
        common: what they must have in common with the project here; digests of sources need not be
            there.
    """
    problems = [
        f"{part.directory} is of another {name.replace('_', '-')}: {theirs}, not {ours}"
        for part in parts
        for name in _COMMON
        # The sources of the parts are compared below, with each other.
        if name != "sources" and (theirs := part.common[name]) != (ours := common[name])
    ]
    problems += _source_problems(parts)
    first = parts[0]
    if odd := [part for part in parts if part.whole != first.whole]:
        return [
            *problems,
            f"{odd[0].directory} is a part of another whole than {first.directory}",
        ]
    return [*problems, *_unit_problems(parts, first.whole)]


def _unit_problems(parts: Sequence[Part], whole: Mapping[str, tuple[str, ...]]) -> list[str]:
    """What is there twice, or not at all."""
    owners: dict[tuple[str, str], list[Part]] = {}
    for part in parts:
        for key in _keys(part.units):
            owners.setdefault(key, []).append(part)
    problems = [
        f"{_shown(*key)} is there twice: in {' and '.join(str(part.directory) for part in found)}"
        for key, found in owners.items()
        if found[1:]
    ]
    if missing := [_shown(*key) for key in _keys(whole) if key not in owners]:
        problems.append(f"the part for {', '.join(missing)} is missing")
    return problems


def _keys(units: Mapping[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    return [(build, unit) for build, inner in units.items() for unit in inner]


def _shown(build: str, unit: str) -> str:
    return f"{build} {unit}" if build else unit


def _source_problems(parts: Sequence[Part]) -> list[str]:
    problems: list[str] = []
    seen: dict[str, tuple[Part, str]] = {}
    for part in parts:
        for build, digest in part.common["sources"].items():
            first = seen.setdefault(build, (part, digest))
            if first[1] != digest:
                problems.append(
                    f"{part.directory} is made of other sources than {first[0].directory}"
                )
    return problems

"""The output directory: which files of an older release go, and which files prevent a new one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build._builders.workspace import STAGING
from core_infra.build._documents.checksums import CHECKSUMS, read_checksum_file
from core_infra.errors import CoreInfraError, WrongStateError
from core_infra.medium._local import LocalMedium

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.build._artifact import Artifact


def retired(output: Path, names: set[str]) -> list[Path]:
    """The files of an older release that go: its checksums, and then what only it lists.

    From their removal until the new checksums are in place, the directory is not a release.
    """
    checksums = output / CHECKSUMS
    if not checksums.is_file():
        return []
    found = [checksums, *sorted(output.glob(f"{CHECKSUMS}.*"))]
    return found + [output / name for name in sorted(_listed(output) - names)]


def _listed(output: Path) -> set[str]:
    """The files that the release in a directory lists and that are there."""
    try:
        listed = read_checksum_file(LocalMedium(), str(output / CHECKSUMS))
    except CoreInfraError:
        return set()  # there is none, or not ours: its files are unknown
    return {name for name in listed if os.path.lexists(output / name)}


def check_released(output: Path, built: Sequence[Artifact], work: Path) -> None:
    """Refuse to replace a file of a release by one that was only built.

    Raises:
        WrongStateError: it is one.
    """
    names = {Path(one.path).name for one in built if Path(one.path).parent == work / STAGING}
    if taken := sorted(names & _listed(output)):
        raise WrongStateError(
            f"cannot build into {output}",
            why=f"{', '.join(taken)} would be replaced, and is part of the release there",
            todo="Choose another output directory with -o, or remove the release.",
            needed="a directory without a release of these files",
            found="a release",
        )


def check_others(output: Path, ours: set[Path]) -> None:
    """Refuse to put a release beside other files: they would look like part of it.

    Raises:
        WrongStateError: there are others.
    """
    others = [path for path in sorted(output.iterdir()) if path not in ours and not path.is_dir()]
    if others:
        names = ", ".join(path.name for path in others)
        raise WrongStateError(
            f"cannot put the release into {output}",
            why=f"it has files that are not part of it: {names}",
            todo="Remove them, or choose another output directory with -o.",
            needed="a directory without other files",
            found=names,
        )

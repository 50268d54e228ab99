"""The workspace: a directory in the output directory for unfinished files.

A file with its final name is finished: it was renamed there, on the same file system, after the
whole build had succeeded. The remains of a killed build are in the workspace; the next build
removes them first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.errors import AlreadyExistsError, InvalidError, WrongStateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from core_infra.build._artifact import Artifact

WORK = ".core-build"
"""The workspace's name in the output directory."""

STAGING = "out"
"""The directory in the workspace with the future content of the output directory."""


@contextlib.contextmanager
def workspace(output: Path) -> Iterator[Path]:
    """Lock the output directory, and create an empty workspace; it is removed at the end.

    Args:
        output: the output directory, created if it is missing; if it is then still empty at the
            end, it is removed again.

    Raises:
        WrongStateError: another build writes to this output directory.
        OSError: it cannot be created.
    """
    was_there = output.is_dir()
    output.mkdir(parents=True, exist_ok=True)
    with _locked(output):
        work = output / WORK
        _remove(work)
        work.mkdir()
        try:
            yield work
        finally:
            _remove(work)
            if not was_there:
                with contextlib.suppress(OSError):  # it is not empty: the build succeeded
                    output.rmdir()


def check_output(project: Path, output: Path) -> None:
    """Refuse an output directory that contains the project.

    Raises:
        InvalidError: it is the project's directory, or a parent of it.
    """
    if output == project or output in project.parents:
        raise InvalidError(
            f"{output} cannot be the output directory",
            why=f"it contains the project {project}",
            todo="Choose a separate directory, like dist.",
            path=str(output),
        )


def finish(made: Sequence[Artifact], work: Path) -> list[Artifact]:
    """Move finished artifacts out of the workspace, and return them with their final paths.

    Raises:
        CoreInfraError: as :func:`place` does.
    """
    staging = work / STAGING
    final = [work.parent / Path(one.path).relative_to(staging) for one in made]
    place([(Path(one.path), new) for one, new in zip(made, final, strict=True)], work)
    return [replace(one, path=str(new)) for one, new in zip(made, final, strict=True)]


def place(moves: Sequence[tuple[Path, Path]], work: Path) -> None:
    """Move finished files and directories to their final names, replacing existing ones.

    Args:
        moves: pairs of the path in the workspace and the final path, in order.
        work: the workspace.

    Raises:
        AlreadyExistsError: two have the same final name.
        OSError: one cannot be moved.
    """
    names = Counter(str(new) for _, new in moves)
    if twice := [name for name, count in names.items() if count > 1]:
        todo = "Build the targets into separate output directories."
        raise AlreadyExistsError(f"two artifacts would be {twice[0]}", todo=todo, path=twice[0])
    for number, (old, new) in enumerate(moves):
        new.parent.mkdir(parents=True, exist_ok=True)
        if new.is_dir() and not new.is_symlink():
            # A directory cannot be replaced atomically: for a moment, between two renames, there
            # is none.
            new.rename(work / f"replaced-{number}")
        elif old.is_dir():
            new.unlink(missing_ok=True)
        old.replace(new)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    # Locks the directory itself: a lock file would be visible among the artifacts.
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WrongStateError(
                f"cannot build into {directory}",
                why="another build is writing there",
                todo="Wait for it, or choose another output directory.",
                needed="an unused output directory",
                found="one in use",
            ) from None
        yield
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    def unlock(function: Callable[[str], object], name: str, _error: object) -> None:
        # Another process may be cleaning up as well.
        with contextlib.suppress(FileNotFoundError):
            # Go's modules and Nix's outputs are read-only.
            Path(name).parent.chmod(0o700)
            if Path(name).is_dir() and not Path(name).is_symlink():
                Path(name).chmod(0o700)
            function(name)

    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path, onerror=unlock)

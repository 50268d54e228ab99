"""The workspace: where a build works, and a directory in the output for unfinished files.

A file with its final name is finished: it was renamed there, on the same file system, after the
whole build had succeeded.

Programs work in a directory outside of the project (:func:`build_place`), so that nothing that they
look for in the directories above is the user's. The remains of a killed build are in both; the
next build removes them first.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import shutil
import stat
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.errors import (
    AlreadyExistsError,
    InvalidError,
    UnavailableError,
    WrongStateError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from core_infra.build._artifact import Artifact

WORK = ".core-build"
"""The workspace's name in the output directory."""

_FULL = (errno.ENOSPC, errno.EDQUOT)

STAGING = "out"
"""The directory, in the place and in the workspace, with the future content of the output."""


_LARGE_TEMPORARY = "/var/tmp"  # noqa: S108 - the directory in it belongs to the user only


def build_place(output: Path, project: Path) -> Path:
    """The directory where a build into an output directory works; the same for each build.

    It is in ``$TMPDIR``, else in ``/var/tmp`` (``/tmp`` may be in memory), and never in the project
    or a directory that contains it alone: see :func:`workspace`.
    """
    wanted = (os.environ.get("TMPDIR"), _LARGE_TEMPORARY, tempfile.gettempdir(), "/tmp")  # noqa: S108
    places = [Path(one).resolve() for one in wanted if one and os.access(one, os.W_OK | os.X_OK)]
    outside = [place for place in places if not place.is_relative_to(project.resolve())]
    base = next(iter(outside), Path(_LARGE_TEMPORARY))
    key = hashlib.sha256(os.fsencode(output.resolve())).hexdigest()[:16]
    return base / f"core-infra-builds-{os.getuid()}" / key


@contextlib.contextmanager
def workspace(output: Path, place: Path) -> Iterator[Path]:
    """Lock the output directory, and create an empty workspace; it is removed at the end.

    Args:
        output: the output directory, created if it is missing; if it is then still empty at the
            end, it is removed again.
        place: the directory where programs work, see :func:`build_place`.

    Raises:
        WrongStateError: another build writes to this output directory.
        UnavailableError: a directory cannot be created, or another user owns the place.
    """
    was_there = output.is_dir()
    with _writable(output):
        output.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(output), _occupied(place):
            work = output / WORK
            _remove(work)
            with _writable(output):
                work.mkdir()
            try:
                yield work
            finally:
                _remove(work)
    finally:
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


def finish(made: Sequence[Artifact], work: Path, old: Sequence[Path] = ()) -> list[Artifact]:
    """Move finished artifacts out of the workspace, and return them with their final paths.

    Args:
        made: the artifacts, in the workspace.
        work: the workspace.
        old: files that are removed before; they are back if an artifact cannot be moved.

    Raises:
        CoreInfraError: as :func:`place` does.
    """
    staging = work / STAGING
    final = [work.parent / Path(one.path).relative_to(staging) for one in made]
    place([(Path(one.path), new) for one, new in zip(made, final, strict=True)], work, old)
    return [replace(one, path=str(new)) for one, new in zip(made, final, strict=True)]


def place(moves: Sequence[tuple[Path, Path]], work: Path, old: Sequence[Path] = ()) -> None:
    """Move finished files and directories to their final names, replacing existing ones.

    If one cannot be moved, everything is moved back.

    Args:
        moves: pairs of the path in the workspace and the final path, in order.
        work: the workspace.
        old: files to remove before.

    Raises:
        AlreadyExistsError: two have the same final name.
        OSError: one cannot be moved.
    """
    names = Counter(str(new) for _, new in moves)
    if twice := [name for name, count in names.items() if count > 1]:
        todo = "Build the targets into separate output directories."
        raise AlreadyExistsError(f"two artifacts would be {twice[0]}", todo=todo, path=twice[0])
    undo: list[Callable[[], object]] = []
    try:
        for number, path in enumerate(old):
            with _writable(path):
                path.rename(work / f"old-{number}")
            undo.append(functools.partial((work / f"old-{number}").rename, path))
        for number, (made, new) in enumerate(moves):
            with _writable(new):
                _place_one(made, new, work / f"replaced-{number}", undo)
    except BaseException:
        for step in reversed(undo):
            with contextlib.suppress(OSError):
                step()
        raise


def _place_one(old: Path, new: Path, former: Path, undo: list[Callable[[], object]]) -> None:
    new.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(new):
        if old.is_dir() or new.is_dir() or new.is_symlink():
            # A directory cannot be replaced atomically: for a moment, between two renames, there
            # is none.
            new.rename(former)
        else:
            os.link(new, former)
        undo.append(lambda: former.replace(new))
    old.replace(new)
    undo.append(lambda: new.replace(old))


def move(old: Path, new: Path) -> None:
    """Move a file or directory, also to another file system.

    Raises:
        AlreadyExistsError: there is one already.
    """
    if os.path.lexists(new):
        raise AlreadyExistsError(f"two artifacts would be {new.name}", path=new.name)
    new.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(old, new)


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[None]:
    """Within the block, the error that a file cannot be created is one of the output directory."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise
        raise UnavailableError(
            f"cannot write to {path}",
            why=f"{error.filename or path}: {error.strerror}",
            todo="Choose a writable output directory with -o.",
            path=str(path),
        ) from error


@contextlib.contextmanager
def _occupied(place: Path) -> Iterator[None]:
    """Create the directory where programs work; remove it at the end, and what killed builds left.

    A directory is in use while it is locked.
    """
    base = place.parent
    try:
        base.mkdir(mode=0o700, exist_ok=True)
        _check_owner(base)
        base.chmod(0o700)
        with _flocked(base):
            _remove_leftovers(base)
            place.mkdir(mode=0o755, exist_ok=True)
            descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (PermissionError, FileExistsError, FileNotFoundError, NotADirectoryError) as error:
        raise UnavailableError(
            f"cannot work in {base}",
            why=error.strerror or str(error),
            todo="Set TMPDIR to a directory that you can write to.",
            path=str(base),
        ) from error
    try:
        yield
    finally:
        _remove(place)
        os.close(descriptor)


def _check_owner(directory: Path) -> None:
    state = directory.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid():
        raise PermissionError(errno.EPERM, "it belongs to another user", str(directory))


def _remove_leftovers(base: Path) -> None:
    for path in base.iterdir():
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(path)
        except BlockingIOError:
            pass  # another build works there
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _flocked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


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

"""What is up to date: tasks whose inputs, command and outputs are as when they last passed."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import logging
import os
import posixpath
import stat
from typing import TYPE_CHECKING, NamedTuple

from core_infra.errors import CoreInfraError
from core_infra.medium._errors import PathNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from core_infra.medium._medium import Medium
    from core_infra.process._runner.spec import RunSpec

_BOOKKEEPING = ("/.git/", "/.core/cache/", "/__pycache__/")

_log = logging.getLogger(__name__)


class Freshness:
    """Remembers what specs with ``inputs`` or ``outputs`` were run from, and what they made.

    There is a small file for each, which is written as a whole, and only once its spec has passed.
    One that is damaged or cannot be read counts as missing, so the spec is run.

    Args:
        medium: where the files are.
        directory: theirs.
        force: nothing is up to date, but what passes is remembered.
    """

    def __init__(
        self, medium: Medium, directory: str = ".core/cache/tasks", *, force: bool = False
    ) -> None:
        self._medium = medium
        self._directory = directory
        self._force = force

    def begin(self, spec: RunSpec) -> Basis:
        """What a spec would be run from now; if that is something new, the old is forgotten."""
        path = posixpath.join(self._directory, hashlib.sha256(spec.name.encode()).hexdigest())
        try:
            # From wherever the tasks are run: relative to what is remembered, not to where we are.
            key = _key(spec, os.path.relpath(spec.dir or ".", self._directory))
        except OSError as error:
            _log.warning("%s is not up to date: %s", spec.name, error)
            key = ""
        fresh = bool(key) and not self._force and self._known(spec, path) == key
        if not fresh:  # a failure, or an end of the host, is not followed by "up to date"
            try:
                self._medium.delete(path)
            except PathNotFoundError:
                pass
            except CoreInfraError as error:
                _log.warning("cannot forget when %s was up to date: %s", spec.name, error)
        return Basis(path, key, fresh)

    def passed(self, spec: RunSpec, basis: Basis) -> None:
        """Remember that a spec has passed."""
        if not basis.key:
            return
        try:
            outputs = _outputs(spec)
            if outputs is not None:
                text = json.dumps({"name": spec.name, "key": basis.key, "outputs": outputs})
                self._medium.write_text(basis.path, text + "\n")
        except (CoreInfraError, OSError) as error:
            _log.warning("%s will not be up to date: %s", spec.name, error)

    def _known(self, spec: RunSpec, path: str) -> str | None:
        """The key that it last passed with, if its outputs are still as they were then."""
        with contextlib.suppress(
            CoreInfraError, OSError, ValueError, TypeError, KeyError, RecursionError
        ):
            found = json.loads(self._medium.read_text(path))
            if found["outputs"] == _outputs(spec):
                return str(found["key"])
        return None


def files_of(spec: RunSpec, *, outputs: bool = False) -> list[str]:
    """The files that the inputs, or the outputs, of a spec name now.

    What it makes itself is no input, although a pattern may cover it.
    """
    made = [path for pattern in spec.outputs for path in _files(spec, pattern)]
    if outputs:
        return made
    found = {os.path.normpath(path) for pattern in spec.inputs for path in _files(spec, pattern)}
    return sorted(found.difference(map(os.path.normpath, made)))


class Basis(NamedTuple):
    """What a spec is run from.

    Attributes:
        path: where that is remembered.
        key: a digest of it; empty if it cannot be known.
        fresh: it has passed with this, and what it made is still there.
    """

    path: str
    key: str
    fresh: bool


def _key(spec: RunSpec, directory: str) -> str:
    told = [spec.argv, directory, spec.env, spec.inputs, spec.outputs]
    files = _digests(spec, files_of(spec))
    return hashlib.sha256(json.dumps([told, files], sort_keys=True).encode()).hexdigest()


def _outputs(spec: RunSpec) -> dict[str, str] | None:
    """A digest for each; None if one is missing."""
    found: dict[str, str] = {}
    for pattern in spec.outputs:
        files = [*_files(spec, pattern)]
        if not files:
            return None
        found |= _digests(spec, files)
    return found


def _digests(spec: RunSpec, files: Iterable[str]) -> dict[str, str]:
    return {os.path.relpath(path, spec.dir or "."): _digest(path) for path in files}


def _files(spec: RunSpec, pattern: str) -> Iterator[str]:
    """What a pattern names; of directories, all that is in them."""
    base = spec.dir or "."
    names: Sequence[str] = glob.glob(  # noqa: PTH207 - Path.glob knows no root, nor what is hidden
        pattern, root_dir=base, recursive=True, include_hidden=True
    )
    for name in names:
        path = os.path.join(base, name)  # noqa: PTH118 - strings, as the glob has them
        inside: Iterable[str] = (path,)
        if os.path.isdir(path):  # noqa: PTH112
            # A pattern with ** names what is in it by itself.
            walked = () if "**" in pattern else os.walk(path)
            inside = (os.path.join(at, file) for at, _, files in walked for file in files)  # noqa: PTH118
        yield from (one for one in inside if not _is_bookkeeping(one, pattern))


def _is_bookkeeping(path: str, pattern: str) -> bool:
    """Whether it is of git, of Python or ours, which a pattern for all files does not mean."""
    return any(part in f"/{path}" and part not in f"/{pattern}/" for part in _BOOKKEEPING)


def _digest(path: str) -> str:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode) and not os.path.exists(path):  # noqa: PTH110
        return "link to " + os.readlink(path)  # noqa: PTH115
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
        return "special"  # to read it might take for ever
    with open(path, "rb") as file:  # noqa: PTH123
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return digest + ("x" if mode & stat.S_IXUSR else "")

"""Programs on PATH that log their calls: wrappers of real ones, and stand-ins for missing ones."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from core_infra.errors import AlreadyExistsError, InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCRIPT = """\
#!{python} -I
import json, os, signal, sys
from pathlib import Path

argv, env, log = [{name!r}, *sys.argv[1:]], dict(os.environ), Path({log!r})
umask = os.umask(0)
os.umask(umask)
call = {{"argv": argv, "env": env, "dir": os.getcwd(), "umask": umask}}
with log.open("a") as file:
    file.write(json.dumps(call) + "\\n")
mode = Path({mode!r}).read_text() if Path({mode!r}).exists() else ""
if mode and not {version!r}.intersection(argv[1:3]):
    if mode == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.exit("this tool fails on request: " + env.get("BUILD_TOKEN", ""))
if {real!r}:
    os.execv({real!r}, [{real!r}, *argv[1:]])
{body}
"""

_VERSION = frozenset({"version", "--version"})
_FAILURES = ("failed", "killed")


class Call(NamedTuple):
    """One call of a program.

    Attributes:
        argv: its name and arguments.
        env: its environment.
        dir: its working directory.
        umask: its umask.
    """

    argv: list[str]
    env: dict[str, str]
    dir: str
    umask: int


class Toolchain:
    """A directory of programs to put in front of PATH; they log their calls.

    Args:
        directory: an empty directory for them; created if it does not exist.
        stand_ins: the behaviour of programs that this host may lack, by their name: Python source,
            with the arguments in ``argv``, the environment in ``env``, and ``Path`` imported.

    Raises:
        AlreadyExistsError: the directory is not empty.
        InvalidError: it cannot be a directory, or a stand-in is not Python source with a name.
    """

    def __init__(self, directory: Path, stand_ins: Mapping[str, str]) -> None:
        _check_stand_ins(stand_ins)
        self._directory = _empty_directory(directory)
        self._stand_ins = dict(stand_ins)
        self._mode = self._directory / "mode"
        self._log = self._directory / "calls.jsonl"
        (self._directory / "bin").mkdir()

    def add(self, name: str) -> bool:
        """Add a program: its stand-in, or a wrapper of the host's program.

        Returns:
            Whether either exists.

        Raises:
            InvalidError: the name is not that of a file without a directory.
        """
        _check_name(name)
        real = shutil.which(name) or ""
        body = self._stand_ins.get(name, "")
        if not real and not body:
            return False
        path = self._directory / "bin" / name
        path.write_text(
            _SCRIPT.format(
                python=sys.executable,
                name=name,
                log=str(self._log),
                mode=str(self._mode),
                # A stand-in takes precedence: the real program may need a daemon.
                real="" if body else real,
                version=_VERSION,
                body=body or "pass",
            )
        )
        path.chmod(0o755)
        return True

    @contextlib.contextmanager
    def on_path(self, *, alone: bool = False) -> Iterator[None]:
        """Put these programs first on PATH, or, with *alone*, make them the whole PATH."""
        before = os.environ.get("PATH")
        # An empty entry would be the working directory.
        rest = [before] if before and not alone else []
        os.environ["PATH"] = os.pathsep.join([str(self._directory / "bin"), *rest])
        try:
            yield
        finally:
            if before is None:
                del os.environ["PATH"]
            else:
                os.environ["PATH"] = before

    @contextlib.contextmanager
    def failing(self, how: str) -> Iterator[None]:
        """Make each program fail ("failed") or be killed ("killed"), except for its version.

        Raises:
            InvalidError: *how* is neither.
        """
        if how not in _FAILURES:
            raise InvalidError(
                f"a program cannot fail like {how!r}", why='it must be "failed" or "killed"'
            )
        before = self._mode.read_text() if self._mode.exists() else ""
        self._mode.write_text(how)
        try:
            yield
        finally:
            self._mode.write_text(before)

    def calls(self) -> list[Call]:
        """All calls in order, except those that ask for a version."""
        if not self._log.exists():
            return []
        calls = [Call(**json.loads(line)) for line in self._log.read_text().splitlines()]
        return [call for call in calls if not _VERSION.intersection(call.argv[1:3])]


def _empty_directory(directory: object) -> Path:
    if not isinstance(directory, str | os.PathLike):
        raise InvalidError(f"cannot put programs into {directory!r}", why="it is not a path")
    try:
        path = Path(directory).absolute()  # programs run in other working directories
        path.mkdir(parents=True, exist_ok=True)
        is_empty = not any(path.iterdir())
    except (OSError, TypeError, ValueError) as error:
        raise InvalidError(f"cannot put programs into {directory!r}", why=str(error)) from error
    if not is_empty:
        raise AlreadyExistsError(f"cannot put programs into {str(path)!r}", why="it is not empty")
    return path


def _check_name(name: object) -> None:
    """Refuse what would be a file outside the directory: a program of the host."""
    if (
        not isinstance(name, str)
        or not name.isprintable()
        or "/" in name
        or name in {"", ".", ".."}
    ):
        raise InvalidError(
            f"no program can be named {name!r}", why="it must be a file name without a directory"
        )


def _check_stand_ins(stand_ins: object) -> None:
    if not isinstance(stand_ins, Mapping):
        raise InvalidError(
            f"cannot use the stand-ins {stand_ins!r}", why="they must be a dict from name to source"
        )
    for name, source in stand_ins.items():
        _check_name(name)
        if not isinstance(source, str):
            raise InvalidError(
                f"the stand-in of {name} is {source!r}", why="it must be source text"
            )
        try:
            compile(source, name, "exec")
        except (SyntaxError, ValueError) as error:
            raise InvalidError(
                f"the stand-in of {name} is not Python source", why=str(error)
            ) from error

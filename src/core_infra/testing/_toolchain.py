"""Programs on PATH that log their calls: wrappers of real ones, and stand-ins for missing ones."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

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
        directory: an empty directory for them.
        stand_ins: the behaviour of programs that this host may lack, by their name: Python source,
            with the arguments in ``argv``, the environment in ``env``, and ``Path`` imported.
    """

    def __init__(self, directory: Path, stand_ins: Mapping[str, str]) -> None:
        self._directory = directory
        self._stand_ins = stand_ins
        self._mode = directory / "mode"
        self._log = directory / "calls.jsonl"
        (directory / "bin").mkdir(parents=True)

    def add(self, name: str) -> bool:
        """Add a program: its stand-in, or a wrapper of the host's program.

        Returns:
            Whether either exists.
        """
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
        before = os.environ["PATH"]
        rest = "" if alone else before
        os.environ["PATH"] = f"{self._directory / 'bin'}{os.pathsep}{rest}"
        try:
            yield
        finally:
            os.environ["PATH"] = before

    @contextlib.contextmanager
    def failing(self, how: str) -> Iterator[None]:
        """Make each program fail ("failed") or be killed ("killed"), except for its version."""
        self._mode.write_text(how)
        try:
            yield
        finally:
            self._mode.unlink()

    def calls(self) -> list[Call]:
        """All calls in order, except those that ask for a version."""
        if not self._log.exists():
            return []
        calls = [Call(**json.loads(line)) for line in self._log.read_text().splitlines()]
        return [call for call in calls if not _VERSION.intersection(call.argv[1:3])]

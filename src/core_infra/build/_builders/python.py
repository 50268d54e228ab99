"""Python packages."""

from __future__ import annotations

import gzip
import sys
import tarfile
from typing import TYPE_CHECKING

from core_infra.build._builders.builder import Builder, Command, Step, Tool, Work
from core_infra.build._builders.environment import extra_flags, inherited
from core_infra.build._builders.project_files import read_toml, table, text
from core_infra.build._errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from core_infra.build._artifact import Target
    from core_infra.build._builders.builder import Config


class PythonBuilder(Builder):
    """``python -m build``: a wheel and an sdist, shipped as they are.

    Extensions in C get no debug information, which Python's own flags ask for: it would name the
    directory in which the wheel is made, a random one.
    """

    name = "python"

    def default_targets(self) -> list[Target]:
        """None: what it makes is for every platform."""
        return []

    def default_name(self, project_dir: Path) -> str:
        """The distribution's name."""
        return text(table(read_toml(project_dir / "pyproject.toml"), "project"), "name")

    def plan(self, config: Config, targets: Sequence[Target]) -> Work:
        """One step, by the Python that runs this; the wheel's name says where it can be used."""
        del targets
        copy = config.scratch("any") / "source"
        output = config.staging("any")
        build = (sys.executable, "-m", "build", *extra_flags(config), "--outdir", str(output), ".")
        env = {name: f"{inherited(config, name)} -g0".lstrip() for name in ("CFLAGS", "CXXFLAGS")}
        step = Step(
            name="any",
            target=None,
            commands=(Command(build, copy, env),),
            output=output,
            copy=copy,
            packed=False,
        )
        version = (sys.executable, "-m", "build", "--version")
        return Work((step,), (Tool("python -m build", version, "pip install build"),))

    def gather(self, config: Config, step: Step) -> None:
        """Take the time and the builder's name out of the sdist."""
        for path in step.output.glob("*.tar.gz"):
            make_reproducible(path, config.epoch)


_LEVEL = 9


def make_reproducible(path: Path, epoch: int) -> None:
    """Pack a ``.tar.gz`` anew: members sorted, of one time and owner, with modes 644 and 755.

    Not every backend of Python takes the time from SOURCE_DATE_EPOCH and leaves out the owner:
    setuptools does neither.

    Args:
        path: the file; it is replaced when the new one is complete.
        epoch: the time, in seconds since 1970.

    Raises:
        ArchiveError: it is no such archive.
        OSError: it cannot be read or written.
    """
    unfinished = path.with_name(f".{path.name}")
    try:
        with (
            tarfile.open(path) as old,
            unfinished.open("wb") as file,
            gzip.GzipFile("", "wb", _LEVEL, file, mtime=epoch) as packed,
            tarfile.open(mode="w", fileobj=packed, format=tarfile.PAX_FORMAT) as new,
        ):
            for member in sorted(old.getmembers(), key=lambda one: one.name):
                new.addfile(
                    _plain(member, epoch), old.extractfile(member) if member.isreg() else None
                )
    except (tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
        unfinished.unlink(missing_ok=True)
        raise ArchiveError(f"{str(path)!r} is no source distribution", why=str(error)) from error
    unfinished.replace(path)


def _plain(member: tarfile.TarInfo, epoch: int) -> tarfile.TarInfo:
    member.pax_headers = {}  # they would go before what is set here
    runs = member.isdir() or member.mode & 0o100
    return member.replace(
        mtime=epoch,
        mode=0o755 if runs else 0o644,
        uid=0,
        gid=0,
        uname="",
        gname="",
        deep=True,
    )

"""Python packages."""

from __future__ import annotations

import copy
import gzip
import sys
import tarfile
from typing import TYPE_CHECKING

from core_infra.build._builders.builder import Builder
from core_infra.build._builders.environment import extra_flags, inherited
from core_infra.build._builders.project_files import read_toml, table, text
from core_infra.build._builders.steps import BuilderPlan, Command, Step, Tool
from core_infra.build._errors import ArchiveError, ArtifactMissingError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from core_infra.build._artifact import Target
    from core_infra.build._builders.steps import BuildContext

_BUILD = (sys.executable, "-P", "-m", "build")
"""Without the working directory on the path: many projects have a build.py of their own."""


class PythonBuilder(Builder):
    """``python -m build``: a wheel and an sdist, shipped as they are.

    C extensions are built without the debug information that Python's own flags request: it would
    contain the random name of the build directory.
    """

    name = "python"

    def default_targets(self) -> list[Target]:
        """None: the artifact is for every platform."""
        return []

    def default_name(self, project_dir: Path) -> str:
        """The distribution's name."""
        document = read_toml(project_dir / "pyproject.toml")
        found = table(document, "project"), table(document, "tool", "poetry")
        return next(filter(None, (text(one, "name") for one in found)), "")

    def own_version(self, project_dir: Path) -> str:
        """The distribution's version, unless its build backend computes it."""
        document = read_toml(project_dir / "pyproject.toml")
        found = table(document, "project"), table(document, "tool", "poetry")
        return next(filter(None, (text(one, "version") for one in found)), "")

    def plan(self, context: BuildContext, targets: Sequence[Target]) -> BuilderPlan:
        """One step, with the running Python; the wheel's name has the platform."""
        del targets
        copy = context.copy("any")
        output = context.staging("any")
        build = (*_BUILD, *extra_flags(context), "--outdir", str(output), ".")
        env = {name: f"{inherited(context, name)} -g0".lstrip() for name in ("CFLAGS", "CXXFLAGS")}
        step = Step(
            name="any",
            target=None,
            commands=(Command(build, copy, env),),
            output=output,
            copy=copy,
            packed=False,
        )
        version = (*_BUILD, "--version")
        return BuilderPlan((step,), (Tool("python -m build", version, "pip install build"),))

    def gather(self, context: BuildContext, step: Step) -> None:
        """Check the names, and remove the time and the user's name from the sdist."""
        for path in sorted(step.output.iterdir()):
            _check_name(path)
        for path in step.output.glob("*.tar.gz"):
            make_reproducible(path, context.epoch)


def _check_name(path: Path) -> None:
    # Setuptools calls a project without a name UNKNOWN, and builds it all the same.
    if path.name.partition("-")[0].lower() == "unknown":
        raise ArtifactMissingError(
            f"{path.name} is not a package",
            why="the project has no name",
            todo="Set project.name in pyproject.toml, or --type if it is not a Python project.",
        )


_LEVEL = 9


def make_reproducible(path: Path, epoch: int) -> None:
    """Repack a ``.tar.gz``: members sorted, with one time and owner, and the modes 644 and 755.

    Not every build backend uses SOURCE_DATE_EPOCH and omits the owner: setuptools does neither.

    Args:
        path: the file; it is replaced atomically.
        epoch: the time, in seconds since 1970.

    Raises:
        ArchiveError: the file is not such an archive.
        OSError: reading or writing fails.
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
        raise ArchiveError(f"{str(path)!r} is not a source distribution", why=str(error)) from error
    unfinished.replace(path)


def _plain(member: tarfile.TarInfo, epoch: int) -> tarfile.TarInfo:
    """The member with one time, owner and mode; TarInfo.replace() came with Python 3.11.4."""
    plain = copy.copy(member)
    plain.pax_headers = {}  # they would override the fields set here
    plain.mtime = epoch
    plain.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    plain.uid = plain.gid = 0
    plain.uname = plain.gname = ""
    return plain

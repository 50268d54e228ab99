"""Builds projects for tests: the value of the fixture ``build_artifacts``."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from core_infra.build._archives.archive import Format, Profile
from core_infra.build._artifact import Target
from core_infra.build._build_cache import carry_out_cached
from core_infra.build._pipeline import BuildResult, carry_out
from core_infra.build._plan import Goal, Packing
from core_infra.build._preflight import make_plan
from core_infra.errors import NotFoundError
from core_infra.medium._local import LocalMedium
from core_infra.medium._sandbox import SandboxMedium
from core_infra.vm._cache import cache_root

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from core_infra.build._project import ProjectType

Project: TypeAlias = "str | os.PathLike[str] | Mapping[str, str | bytes]"
"""A sample's name, a path, or the files of a project by their paths in it."""


class ArtifactBuilder:
    """Builds projects into the directory of one test.

    Args:
        samples: the directory of sample projects.
        directory: the directory of the test.
    """

    def __init__(self, samples: Path, directory: Path) -> None:
        self._samples = samples
        self._directory = directory
        self._numbers = itertools.count(1)

    def __call__(
        self,
        project: Project,
        targets: Iterable[str | Target] = (),
        *,
        format: Format | str = Format.GZ,  # noqa: A002 - its name everywhere
        profile: Profile | str = Profile.DEFAULT,
        type: ProjectType | None = None,  # noqa: A002 - the same
        name: str = "",
        version: str = "",
        twice: bool = False,
    ) -> BuildResult:
        """Build a project; see the description of the fixture.

        Args:
            project: a sample's name, a path, or a tree of files by their paths.
            targets: the platforms, as ``os/arch``; by default the project's own.
            format: of the archives: gz, xz or zip.
            profile: of the archives: default, fast or small.
            type: its type; by default what is discovered.
            name: the name of its artifacts; by default the project's.
            version: the version of its artifacts; by default none.
            twice: build it again in a different environment, and fail unless the output is
                bit-identical.

        Raises:
            NotFoundError: the sample or directory does not exist.
            PreflightError: something is missing, such as a compiler; lists everything.
            CoreInfraError: as :func:`core_infra.build._pipeline.carry_out` does.
        """
        number = next(self._numbers)
        plan = make_plan(
            self._find(project, number),
            goal=Goal.PACKAGE,
            packing=Packing(Format(format), Profile(profile)),
            output=self._directory / f"dist-{number}",
            targets=[one if isinstance(one, Target) else Target.parse(one) for one in targets],
            type=type,
            name=name,
            version=version,
        )
        if twice:
            return carry_out(plan, twice=True)
        return carry_out_cached(plan, cache_root() / "builds")

    def _find(self, project: Project, number: int) -> Path:
        if not isinstance(project, str | os.PathLike):
            return self._write(project, number)
        if not isinstance(project, str) or "/" in project:
            return Path(project)
        sample = self._samples / project
        if not sample.is_dir():
            there = sorted(path.name for path in self._samples.glob("*/"))
            raise NotFoundError(
                f"there is no sample project {project!r}",
                why=f"{self._samples} has {', '.join(there) or 'none'}",
                todo="Name one of these, or give a path: './NAME'.",
            )
        return sample

    def _write(self, tree: Mapping[str, str | bytes], number: int) -> Path:
        root = self._directory / f"project-{number}"
        LocalMedium().ensure_dir(str(root))
        medium = SandboxMedium(root)
        for path, content in tree.items():
            data = content.encode() if isinstance(content, str) else content
            # A dict of files has no modes: a script is recognised by its first line.
            medium.write_bytes(path, data, mode=0o755 if data.startswith(b"#!") else 0o644)
        return root

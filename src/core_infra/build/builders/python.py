"""Python packages."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from core_infra.build.builders.builder import Builder, Command, Step, Tool, Work
from core_infra.build.builders.environment import inherited
from core_infra.build.builders.extra import extra_flags
from core_infra.build.builders.manifests import read_toml, table, text
from core_infra.build.builders.sdist import make_reproducible

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from core_infra.build.artifact import Target
    from core_infra.build.builders.builder import Config


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

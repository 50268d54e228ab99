"""Documentation."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from core_infra.build._builders.builder import Builder, Command, Step, Tool, Work
from core_infra.build._builders.environment import extra_flags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.build._artifact import Target
    from core_infra.build._builders.builder import Config


class DocsBuilder(Builder):
    """``mkdocs build``: the site is the artifact."""

    name = "docs"
    bears_faketime = True

    def default_targets(self) -> list[Target]:
        """None: what it makes is for every platform."""
        return []

    def plan(self, config: Config, targets: Sequence[Target]) -> Work:
        """One step, by the mkdocs beside the Python that runs this."""
        del targets
        copy = config.scratch("any") / "source"
        output = config.staging("any")
        mkdocs = (sys.executable, "-m", "mkdocs")
        build = (*mkdocs, "build", *extra_flags(config), "--site-dir", str(output / config.name))
        step = Step(
            name="any", target=None, commands=(Command(build, copy),), output=output, copy=copy
        )
        tool = Tool("mkdocs", (*mkdocs, "--version"), "pip install mkdocs")
        return Work((step,), (tool,))

"""Documentation."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from core_infra.build._builders.builder import Builder
from core_infra.build._builders.environment import extra_flags
from core_infra.build._builders.steps import BuilderPlan, Command, Step, Tool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.build._artifact import Target
    from core_infra.build._builders.steps import BuildContext


class DocsBuilder(Builder):
    """``mkdocs build``: the site is the artifact."""

    name = "docs"
    supports_faketime = True

    def default_targets(self) -> list[Target]:
        """None: the artifact is for every platform."""
        return []

    def plan(self, context: BuildContext, targets: Sequence[Target]) -> BuilderPlan:
        """One step, with the mkdocs package of the running Python."""
        del targets
        copy = context.copy("any")
        output = context.staging("any")
        mkdocs = (sys.executable, "-m", "mkdocs")
        build = (*mkdocs, "build", *extra_flags(context), "--site-dir", str(output / context.name))
        step = Step(
            name="any", target=None, commands=(Command(build, copy),), output=output, copy=copy
        )
        tool = Tool("mkdocs", (*mkdocs, "--version"), "pip install mkdocs")
        return BuilderPlan((step,), (tool,))

"""Images of LinuxKit."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from core_infra.build._artifact import Target, host_target
from core_infra.build._builders.builder import Builder
from core_infra.build._builders.environment import extra_flags
from core_infra.build._builders.steps import BuilderPlan, Command, Step, Tool
from core_infra.build._project import ProjectType, explain
from core_infra.build._sources.search import ignored_files
from core_infra.medium._local import LocalMedium

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from core_infra.build._builders.steps import BuildContext

_INSTALL = "Install LinuxKit: https://github.com/linuxkit/linuxkit/releases."
_OWN = (sys.executable, "-P", "-m", "core_infra")
_OWN_TOOL = Tool("core-infra", (*_OWN, "--version"))
_FORMATS = ("kernel+initrd",)
_OWN_FORMATS = ("kernel+initrd", "tar", "raw", "qcow2", "iso")
_OWN_NAME = "core-infra"


class LinuxKitBuilder(Builder):
    """``core-infra image build``, or ``linuxkit build``, once for each architecture.

    The artifact is a directory with the files of all formats: ``NAME-kernel`` and so on.
    """

    name = "linuxkit"

    def default_targets(self) -> list[Target]:
        """Linux, on this host's architecture."""
        return [Target("linux", host_target().arch)]

    def ignored(self, context: BuildContext, targets: Sequence[Target]) -> list[Path]:
        """Any of them may be a file of the image: LinuxKit reads them in place."""
        del targets
        return ignored_files(context.project_dir)

    def plan(self, context: BuildContext, targets: Sequence[Target]) -> BuilderPlan:
        """One step for each target."""
        recipe = context.settings.linuxkit.config or _found(context)
        problems = [
            f"linuxkit builds for linux only, not for {target}"
            for target in targets
            if target.os != "linux"
        ]
        if not (context.project_dir / recipe).is_file():
            problems.append(f"{context.project_dir / recipe} does not exist")
        own = _is_own(context)
        foreign = [one for one in _formats(context) if one not in _OWN_FORMATS]
        if own and foreign:
            problems.append(
                f"core-infra does not write {', '.join(foreign)}; it writes "
                f"{', '.join(_OWN_FORMATS)}. Set linuxkit.assembler to linuxkit"
            )
        steps = (_step(context, target, recipe) for target in targets if target.os == "linux")
        tool = _OWN_TOOL if own else _program(foreign)
        return BuilderPlan(tuple(steps), (tool,), tuple(problems))


def _program(foreign: Sequence[str]) -> Tool:
    remedy = _INSTALL
    if foreign:
        remedy += (
            f" Without it, core-infra writes {', '.join(_OWN_FORMATS)}, not {', '.join(foreign)}."
        )
    return Tool("linuxkit", ("linuxkit", "version"), remedy)


def _formats(context: BuildContext) -> tuple[str, ...]:
    return context.settings.linuxkit.formats or _FORMATS


def _is_own(context: BuildContext) -> bool:
    """Whether core-infra assembles the image: by default, if it can do what the project wants."""
    if chosen := context.settings.linuxkit.assembler:
        return chosen == _OWN_NAME
    return not extra_flags(context) and set(_formats(context)) <= set(_OWN_FORMATS)


def _step(context: BuildContext, target: Target, recipe: str) -> Step:
    output = context.staging(target.directory)
    where = ("--dir", str(output / context.name), "--arch", target.arch)
    if _is_own(context):
        formats = [word for one in _formats(context) for word in ("--format", one)]
        documents = ["--documents"] if find_spec("cyclonedx") else []  # of the extra build
        argv = (*_OWN, "image", "build", *formats, *documents, "--name", context.name, *where)
    else:
        formats = ["--format", ",".join(_formats(context))]
        argv = ("linuxkit", "build", *formats, "--name", context.name, *where)
    argv = (*argv, *extra_flags(context), str(context.project_dir / recipe))
    return Step(
        name=str(target),
        target=target,
        commands=(Command(argv, context.project_dir),),
        output=output,
        folders=(output / context.name,),
    )


def _found(context: BuildContext) -> str:
    findings = explain(LocalMedium(context.project_dir), ".")
    marker = next(one.marker for one in findings if one.type is ProjectType.LINUXKIT)
    return marker or "linuxkit.yml"

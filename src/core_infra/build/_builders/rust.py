"""Rust programs and libraries."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build._artifact import host_target
from core_infra.build._builders.builder import Builder
from core_infra.build._builders.environment import extra_flags, inherited
from core_infra.build._builders.programs import check_program
from core_infra.build._builders.project_files import read_toml, table, text
from core_infra.build._builders.steps import BuilderPlan, Command, Step, Tool
from core_infra.build._errors import ArtifactMissingError
from core_infra.build._sources.search import ignored_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core_infra.build._artifact import Target
    from core_infra.build._builders.steps import BuildContext

TRIPLES = {
    "linux/amd64": "x86_64-unknown-linux-gnu",
    "linux/arm64": "aarch64-unknown-linux-gnu",
    "linux/386": "i686-unknown-linux-gnu",
    "linux/arm": "armv7-unknown-linux-gnueabihf",
    "linux/armv5": "armv5te-unknown-linux-gnueabi",
    "linux/armv6": "arm-unknown-linux-gnueabihf",
    "linux/armv7": "armv7-unknown-linux-gnueabihf",
    "linux/riscv64": "riscv64gc-unknown-linux-gnu",
    "linux/amd64_musl": "x86_64-unknown-linux-musl",
    "linux/arm64_musl": "aarch64-unknown-linux-musl",
    "linux/armv7_musl": "armv7-unknown-linux-musleabihf",
    "darwin/amd64": "x86_64-apple-darwin",
    "darwin/arm64": "aarch64-apple-darwin",
    "windows/amd64": "x86_64-pc-windows-gnu",
    "windows/arm64": "aarch64-pc-windows-gnullvm",
    "freebsd/amd64": "x86_64-unknown-freebsd",
}
"""Rust's names of the targets; for Windows with the ABI that other hosts can link."""

_LINKERS = {
    "linux/amd64": "x86_64-linux-gnu-gcc",
    "linux/arm64": "aarch64-linux-gnu-gcc",
    "linux/386": "i686-linux-gnu-gcc",
    "linux/arm": "arm-linux-gnueabihf-gcc",
    "linux/armv5": "arm-linux-gnueabi-gcc",
    "linux/armv6": "arm-linux-gnueabihf-gcc",
    "linux/armv7": "arm-linux-gnueabihf-gcc",
    "linux/riscv64": "riscv64-linux-gnu-gcc",
    # Rust brings musl along; these only link.
    "linux/amd64_musl": "x86_64-linux-gnu-gcc",
    "linux/arm64_musl": "aarch64-linux-gnu-gcc",
    "linux/armv7_musl": "arm-linux-gnueabihf-gcc",
    "windows/amd64": "x86_64-w64-mingw32-gcc",
}
"""The names of the cross compilers in Debian and other distributions, for linking."""

_CARGO = Tool("cargo", ("cargo", "--version"), "Install Rust: https://rustup.rs.")
_RUSTC = Tool("rustc", ("rustc", "--version"), "Install Rust: https://rustup.rs.")
_FOLDERS = {"dev": "debug", "test": "debug", "bench": "release"}
"""Where cargo puts what it builds with a profile of its own; else in a folder of its name."""
_NO_TARGET = "target specification"
"""In rustc's message that it does not know a target."""
_LIBRARY = re.compile(r"(lib.+\.(a|so|dylib)|.+\.(dll|wasm))")


class RustBuilder(Builder):
    """``cargo build --release``, once for each target: programs and C libraries are shipped."""

    name = "rust"

    def default_name(self, project_dir: Path) -> str:
        """The package's name."""
        return text(table(read_toml(project_dir / "Cargo.toml"), "package"), "name")

    def own_version(self, project_dir: Path) -> str:
        """The package's version, or that of its workspace."""
        package = table(read_toml(project_dir / "Cargo.toml"), "package")
        if isinstance(package.get("version"), dict):
            shared = read_toml(_workspace_root(project_dir) / "Cargo.toml")
            return text(table(shared, "workspace", "package"), "version")
        return text(package, "version")

    def plan(self, context: BuildContext, targets: Sequence[Target]) -> BuilderPlan:
        """One step for each target; the standard library for it must be installed."""
        problems = [problem for target in targets if (problem := _unknown(target))]
        known = [target for target in targets if str(target) in TRIPLES]
        problems += [problem for target in known if (problem := _no_std(context, target))]
        steps = tuple(_step(context, target) for target in known)
        return BuilderPlan(steps, (_CARGO, _RUSTC), tuple(problems))

    def outside(self, project_dir: Path) -> list[Path]:
        """The workspace, the packages that have a path, and cargo's configuration above."""
        return list(_local_packages(project_dir))

    def ignored(self, context: BuildContext, targets: Sequence[Target]) -> list[Path]:
        """All of them: only the compiler finds out which ones it includes."""
        del targets
        return ignored_files(context.project_dir)

    def gather(self, context: BuildContext, step: Step) -> None:
        """Copy programs and libraries; a single program gets the project's binary name."""
        assert step.target is not None  # noqa: S101 - planned below
        profile = _profile(context)
        folder = _FOLDERS.get(profile, profile) or "release"
        made = _target_dir(context, step.target) / TRIPLES[str(step.target)] / folder
        found = list(_products(made)) if made.is_dir() else []
        if not found:
            raise ArtifactMissingError(
                f"building {context.project_dir} for {step.name} made no artifacts",
                why="the package has no program, and no library for other languages than Rust",
                todo='Add a program, or crate-type = ["cdylib"].',
            )
        step.output.mkdir(parents=True, exist_ok=True)
        programs = [path for path in found if not _LIBRARY.fullmatch(path.name)]
        for path in programs:
            check_program(path, step.target)
        for path in found:
            only = [path] == programs and context.settings.project.binary
            name = f"{context.name}{path.suffix}" if only else path.name
            shutil.copy2(path, step.output / name)


def _step(context: BuildContext, target: Target) -> Step:
    triple = TRIPLES[str(target)]
    where = context.copy(str(target))  # build.rs may write there, and cargo a missing lock file
    locked = (_workspace_root(context.project_dir) / "Cargo.lock").is_file()
    profile = () if _profile(context) else ("--release",)
    release = (*profile, "--target", triple, "--target-dir", str(_target_dir(context, target)))
    argv = (
        *("cargo", "build", *release, *(("--locked",) if locked else ())),
        *("--config", f"build.rustflags={json.dumps(_remapped(context, where))}"),
        *extra_flags(context),
    )
    env = {
        "CARGO_BUILD_JOBS": str(context.jobs),
        **_linker(context, target),
        **_inherited_flags(context, where),
    }
    return Step(
        name=str(target),
        target=target,
        commands=(Command(argv, where, env),),
        output=context.staging(target.directory),
        copy=where,
    )


def _workspace_root(project_dir: Path) -> Path:
    """The directory of the workspace that a package is a member of; its own without one."""
    for directory in (project_dir, *project_dir.parents):
        manifest = directory / "Cargo.toml"
        if "workspace" in read_toml(manifest):
            return directory
    return project_dir


def _local_packages(project_dir: Path) -> Iterator[Path]:
    waiting, seen = [project_dir], {project_dir}
    root = _workspace_root(project_dir)
    if root != project_dir:
        yield root
        waiting.append(root)
    while waiting:
        directory = waiting.pop()
        for name in _paths(read_toml(directory / "Cargo.toml")):
            inner = Path(os.path.normpath(directory / name))
            if inner.is_dir() and inner not in seen:
                seen.add(inner)
                waiting.append(inner)
                yield inner
    home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    for directory in project_dir.parents:
        for name in (".cargo/config.toml", ".cargo/config", "rust-toolchain.toml"):
            above = directory / name
            if above.is_file() and not above.is_relative_to(home):
                yield above


def _paths(value: object) -> Iterator[str]:
    """The values of ``path`` in the tables of dependencies and patches."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in {"bin", "lib", "example", "test", "bench"}:
                continue
            if name == "path" and isinstance(inner, str):
                yield inner
            else:
                yield from _paths(inner)


def _profile(context: BuildContext) -> str:
    """The profile that ``build.flags`` choose: ``--profile=dist``; empty for ``--release``."""
    flags = extra_flags(context)
    for flag, following in zip(flags, [*flags[1:], ""], strict=False):
        if flag.startswith("--profile"):
            return flag.partition("=")[2] or following
    return ""


def _target_dir(context: BuildContext, target: Target) -> Path:
    return context.scratch(str(target)) / "target"


def _remapped(context: BuildContext, where: Path) -> list[str]:
    """Flags that keep local paths out of the program, for example out of panic messages."""
    home = os.environ.get("CARGO_HOME") or str(Path.home() / ".cargo")
    # The last match wins, and the working directory is inside the project.
    places = {
        home: "/cargo",
        str(context.project_dir): "/src",
        str(context.staging().parent): "/work",
    }
    root = where.parents[len(context.inside.parts) - 1] if context.inside.parts else where
    places[str(root)] = "/src"
    return [f"--remap-path-prefix={path}={name}" for path, name in places.items()]


def _inherited_flags(context: BuildContext, where: Path) -> dict[str, str]:
    # If RUSTFLAGS is set, cargo ignores build.rustflags.
    flags = inherited(context, "RUSTFLAGS")
    return {"RUSTFLAGS": " ".join([flags, *_remapped(context, where)])} if flags else {}


def _linker(context: BuildContext, target: Target) -> dict[str, str]:
    """The linker for another platform, unless the user has configured one."""
    variable = f"CARGO_TARGET_{TRIPLES[str(target)].upper().replace('-', '_')}_LINKER"
    linker = _LINKERS.get(str(target), "")
    chosen = target == host_target() or inherited(context, variable)
    return {} if chosen or not shutil.which(linker) else {variable: linker}


def _products(made: Path) -> Iterator[Path]:
    for path in sorted(made.iterdir()):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and not path.name.startswith("."):
            program = mode & stat.S_IXUSR and path.suffix in {"", ".exe"}
            if program or _LIBRARY.fullmatch(path.name):
                yield path


def _unknown(target: Target) -> str:
    return "" if str(target) in TRIPLES else f"the Rust target triple for {target} is not known"


def _no_std(context: BuildContext, target: Target) -> str:
    triple = TRIPLES[str(target)]
    if shutil.which("rustc") is None:
        return ""  # reported as a missing tool
    argv = ["rustc", "--print", "target-libdir", "--target", triple]
    done = subprocess.run(
        argv, cwd=context.project_dir, capture_output=True, text=True, check=False
    )
    if done.returncode and _NO_TARGET not in done.stderr:
        return ""  # rustc does not work here, which is reported with the tools
    library = Path(done.stdout.strip() or "/nonexistent")
    if done.returncode == 0 and any(library.glob("libstd-*")):
        return ""
    return f"Rust's standard library for {target} is missing: rustup target add {triple}"

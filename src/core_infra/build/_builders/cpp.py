"""C and C++ with CMake."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build._artifact import host_target
from core_infra.build._builders.builder import Builder
from core_infra.build._builders.environment import extra_flags, inherited
from core_infra.build._builders.steps import BuilderPlan, Command, Step, Tool
from core_infra.build._errors import ArtifactMissingError
from core_infra.errors import AlreadyExistsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core_infra.build._artifact import Target
    from core_infra.build._builders.steps import BuildContext

_CMAKE = Tool("cmake", ("cmake", "--version"), "Install CMake: apt-get install cmake.")
_CPACK = Tool("cpack", ("cpack", "--version"), "It comes with CMake.")
_MAKE = Tool("make", ("make", "--version"), "apt-get install make")
_USES_CPACK = re.compile(r"^\s*include\s*\(\s*CPack\s*\)", re.IGNORECASE | re.MULTILINE)
_COMMENT = re.compile(r"#\[(=*)\[.*?\]\1\]|#[^\n]*", re.DOTALL)
_INCLUDES = re.compile(
    r"^\s*include\s*\(\s*\"?(?:\$\{\w*SOURCE_DIR\}/)?([\w./+-]+\.cmake)\"?",
    re.IGNORECASE | re.MULTILINE,
)
_PROJECT = re.compile(r"^\s*project\s*\(\s*\"?([\w.+-]+)", re.IGNORECASE | re.MULTILINE)
_PROJECT_VERSION = re.compile(
    r"^\s*project\s*\([^)]*?\sVERSION\s+\"?(\d+(?:\.\d+)*)", re.IGNORECASE | re.MULTILINE
)
_ABOVE = re.compile(r"(?<![\w.])(?:\$\{\w+_DIR\}/)?(\.\./[\w./+-]+)")
_RULE = re.compile(r"^([\w.-]+)\s*:(?!=)", re.MULTILINE)
_LIBRARY = re.compile(r"lib.+\.(a|so(\.\d+)*|dylib)|.+\.(dll|lib|exe)")
_TOOLCHAINS = ("cmake", "cmake/toolchains", "toolchains")
_PROFILES = {
    "linux/amd64": "gcc-linux-x86_64",
    "linux/arm64": "gcc-linux-armv8",
    "darwin/arm64": "apple-clang-armv8",
    "darwin/amd64": "apple-clang-x86_64",
    "windows/amd64": "msvc-194-x86_64",
}
"""Conan's names of platforms; the make rules of projects that use Conan have them, too."""

_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DCMAKE_INSTALL_PREFIX=/usr/local",
    "-DCMAKE_EXPORT_NO_PACKAGE_REGISTRY=ON",
    "-DBUILD_TESTING=OFF",
)
_CACHED_PREFIX = re.compile(r"^CMAKE_INSTALL_PREFIX:\w+=(.*)$", re.MULTILINE)

_PACK_CONFIG = "CPackConfig.cmake"
_PACK_FILE = ".core-pack.cmake"
_PACK = """\
include([==[{build}/{config}]==])
file(GLOB_RECURSE core_scripts [==[{build}/cmake_install.cmake]==])
foreach(core_script IN LISTS core_scripts)
  file(STRINGS "${{core_script}}" core_found REGEX CMAKE_ABSOLUTE_DESTINATION_FILES)
  if(core_found)
    set(CPACK_SET_DESTDIR ON)
  endif()
endforeach()
"""
"""Without DESTDIR, cpack installs files with an absolute destination on this host."""
_PACK_OR_INSTALL = """\
if [ -f "$0" ]; then exec cpack --config "$1" -B "$2"; fi
DESTDIR="$3" exec cmake --install "$4" --config Release
"""
"""A project may include CPack under a condition; whether it holds, cmake finds out."""


class CppBuilder(Builder):
    """``cmake``: configure, build, then make packages by ``cpack`` if it is included, else install.

    For another platform than this host, the project must have a toolchain file
    (``cmake/linux-arm64.cmake``, or in ``cmake/toolchains`` or ``toolchains``), or a rule
    ``linux-arm64`` in its Makefile, which gets OUTPUT_DIR.

    The build runs in a copy: some projects, such as zlib, change their sources when they are
    configured.
    """

    name = "cpp"
    supports_faketime = True

    def default_name(self, project_dir: Path) -> str:
        """The name in ``project(…)`` of CMakeLists.txt."""
        found = _PROJECT.search(_read(project_dir / "CMakeLists.txt"))
        return found[1] if found else ""

    def own_version(self, project_dir: Path) -> str:
        """The version in ``project(…)`` of CMakeLists.txt."""
        found = _PROJECT_VERSION.search(_read(project_dir / "CMakeLists.txt"))
        return found[1] if found else ""

    def plan(self, context: BuildContext, targets: Sequence[Target]) -> BuilderPlan:
        """One step for each target."""
        steps: list[Step] = []
        tools: list[Tool] = []
        problems: list[str] = []
        for target in targets:
            toolchain = find_toolchain(context.project_dir, target)
            rule = find_rule(context.project_dir, target)
            if target == host_target() or toolchain:
                steps.append(_cmake_step(context, target, toolchain))
                tools += [_CMAKE, _CPACK] if _packages(context) else [_CMAKE]
            elif rule:
                steps.append(_make_step(context, target, rule))
                tools.append(_MAKE)
            else:
                problems.append(_no_toolchain(context, target))
        return BuilderPlan(tuple(steps), tuple(dict.fromkeys(tools)), tuple(problems))

    def outside(self, project_dir: Path) -> list[Path]:
        """The directories above that CMakeLists.txt refers to: ``add_subdirectory(../lib)``."""
        found = set(_ABOVE.findall(_read(project_dir / "CMakeLists.txt")))
        paths = (Path(os.path.normpath(project_dir / name)) for name in sorted(found))
        return [path for path in paths if path.exists() and not project_dir.is_relative_to(path)]

    def gather(self, context: BuildContext, step: Step) -> None:
        """Move the packages, or the installed files; if there are none, the compiled files."""
        scratch, tree = context.scratch(step.name), step.output / context.name
        build = scratch / "build"
        if (build / _PACK_CONFIG).is_file() and not step.packed:
            for path in (build / "packages").iterdir():
                if path.is_file():
                    shutil.move(path, step.output / path.name)
            return
        _take_installed(scratch / "installed", _prefix(build), tree)
        if tree.is_dir() and any(tree.iterdir()):
            return
        found = list(_products(build)) if build.is_dir() else []
        if not found:
            raise ArtifactMissingError(
                f"building {context.project_dir} for {step.name} made no artifacts",
                why="there are no install rules, and no programs or libraries",
                todo="Add install(TARGETS …) to CMakeLists.txt.",
            )
        tree.mkdir(parents=True, exist_ok=True)
        for path in found:
            shutil.move(path, tree / path.name)


def find_toolchain(project_dir: Path, target: Target) -> str:
    """The toolchain file for a target, relative to the project; empty if there is none."""
    names = [f"{target.os}{dash}{target.arch}.cmake" for dash in "-_"]
    paths = [f"{directory}/{name}" for directory in _TOOLCHAINS for name in names]
    return next((path for path in paths if (project_dir / path).is_file()), "")


def find_rule(project_dir: Path, target: Target) -> str:
    """The rule for a target in the project's own Makefile; empty if there is none."""
    text = next(
        filter(None, (_read(project_dir / name) for name in ("GNUmakefile", "Makefile"))), ""
    )
    rules = set(_RULE.findall(text))
    names = (f"{target.os}-{target.arch}", target.directory, _PROFILES.get(str(target), ""))
    return next((name for name in names if name in rules), "")


def _cmake_step(context: BuildContext, target: Target, toolchain: str) -> Step:
    scratch = context.scratch(str(target))
    source, build = context.copy(str(target)), scratch / "build"
    # The project's path must not get into the program: by __FILE__, assert(), debug information.
    root = scratch / "source"  # it is the same unless the project is in a subdirectory
    above = [f"-ffile-prefix-map={root}=/src"] if root != source else []
    mapped = shlex.join(
        [*above, f"-ffile-prefix-map={source}=.", f"-ffile-prefix-map={build}=build"]
    )
    env = {
        "CFLAGS": f"{inherited(context, 'CFLAGS')} {mapped}".strip(),
        "CXXFLAGS": f"{inherited(context, 'CXXFLAGS')} {mapped}".strip(),
        "CMAKE_BUILD_PARALLEL_LEVEL": str(context.jobs),
    }
    options = [*_OPTIONS]
    if toolchain:
        options.append(f"-DCMAKE_TOOLCHAIN_FILE={source / toolchain}")
    packages = _packages(context)
    if packages:
        options.append(f"-DCPACK_SYSTEM_NAME={target.os}-{target.arch}")
    configure = ("cmake", "-S", str(source), "-B", str(build), *options, *extra_flags(context))
    compile_ = ("cmake", "--build", str(build), "--config", "Release")
    # Not --prefix: rules with an absolute destination would install on this host.
    installed = str(scratch / "installed")
    install = ("cmake", "--install", str(build), "--config", "Release")
    last = Command(install, source, {**env, "DESTDIR": installed})
    if packages:
        pack = (str(source / _PACK_FILE), str(build / "packages"), installed, str(build))
        argv = ("/bin/sh", "-c", _PACK_OR_INSTALL, str(build / _PACK_CONFIG), *pack)
        last = Command(argv, source, env)
    return Step(
        name=str(target),
        target=target,
        commands=(Command(configure, source, env), Command(compile_, source, env), last),
        output=context.staging(target.directory),
        copy=source,
        seeds={_PACK_FILE: _PACK.format(build=build, config=_PACK_CONFIG)} if packages else {},
        packed=not packages,
    )


def _make_step(context: BuildContext, target: Target, rule: str) -> Step:
    copy = context.copy(str(target))
    output = context.staging(target.directory)
    env = {
        "OUTPUT_DIR": str(output / context.name),
        "CMAKE_BUILD_PARALLEL_LEVEL": str(context.jobs),
    }
    make = ("make", f"--jobs={context.jobs}", rule)
    return Step(
        name=str(target),
        target=target,
        commands=(Command(make, copy, env),),
        output=output,
        copy=copy,
    )


def _prefix(build: Path) -> str:
    found = _CACHED_PREFIX.search(_read(build / "CMakeCache.txt"))
    return found[1] if found else "/"


def _take_installed(root: Path, prefix: str, tree: Path) -> None:
    """Move the files under the prefix into a tree; others keep their full path, such as ``etc``."""
    inner = root / prefix.lstrip("/")
    for top in (inner, root):
        for path in [path for path in top.rglob("*") if path.is_symlink() or not path.is_dir()]:
            new = tree / path.relative_to(top)
            new.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(new):
                raise AlreadyExistsError(
                    f"two files would be {new.relative_to(tree)}",
                    why=f"one is installed to {prefix}, the other to /",
                    path=str(new.relative_to(tree)),
                )
            path.rename(new)


def _products(build: Path) -> Iterator[Path]:
    for top, directories, names in os.walk(build):
        directories[:] = sorted(set(directories) - {"CMakeFiles", "_deps", "Testing"})
        for name in sorted(names):
            path = build / top / name
            mode = path.lstat().st_mode
            program = stat.S_ISREG(mode) and mode & stat.S_IXUSR and "." not in name
            if program or (_LIBRARY.fullmatch(name) and stat.S_ISREG(mode)):
                yield path


def _packages(context: BuildContext) -> bool:
    """Whether CPack is included, by CMakeLists.txt or a file of the project that it includes."""
    project = context.project_dir
    text = _COMMENT.sub("", _read(project / "CMakeLists.txt"))
    included = [project / name for name in _INCLUDES.findall(text)]
    texts = [text, *(_COMMENT.sub("", _read(path)) for path in included)]
    return any(_USES_CPACK.search(one) for one in texts)


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""


def _no_toolchain(context: BuildContext, target: Target) -> str:
    return (
        f"{context.project_dir} has neither a toolchain file cmake/{target.os}-{target.arch}.cmake "
        f"nor a rule {target.os}-{target.arch} in its Makefile, and this host is {host_target()}"
    )

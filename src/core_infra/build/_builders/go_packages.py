"""Asks Go which packages are programs, and which files they are compiled from."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_infra.build._builders.environment import build_environment, inherited, left_out

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core_infra.build._artifact import Target
    from core_infra.build._builders.steps import BuildContext

_LOCAL = re.compile(r"(?:^|\s)\"?(\.{1,2}(?:/[^\s\"]*)?|/[^\s\"]+)\"?\s*$", re.MULTILINE)
"""A directory at the end of a line of go.mod or go.work."""

_FILES = (
    *("GoFiles", "CgoFiles", "CFiles", "CXXFiles", "MFiles", "HFiles", "FFiles", "SFiles"),
    *("SwigFiles", "SwigCXXFiles", "SysoFiles", "EmbedFiles"),
)
_TIMEOUT = 120.0


def go_environment(context: BuildContext, target: Target) -> dict[str, str]:
    """The variables that make Go compile for a target."""
    return {
        "GOOS": target.os,
        "GOARCH": target.architecture,
        **variant_variable(target),
        "CGO_ENABLED": "1" if context.settings.build.cgo else "0",
        "GOMAXPROCS": str(context.jobs),
    }


def platforms(context: BuildContext) -> set[str]:
    """All platforms that the Go of this project compiles for; none if it does not say."""
    try:
        done = subprocess.run(
            ("go", "tool", "dist", "list"),
            cwd=context.project_dir,
            env={**os.environ, "GOFLAGS": ""},
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired):
        return set()
    return set(done.stdout.split()) if done.returncode == 0 else set()


def variant_variable(target: Target) -> dict[str, str]:
    """GOARM or GOAMD64 for a target with a variant."""
    if not target.variant:
        return {}
    arm = target.architecture == "arm"
    return {"GOARM": target.variant[1:]} if arm else {"GOAMD64": target.variant}


def find_mains(context: BuildContext, target: Target) -> tuple[dict[str, str], str]:
    """Find the packages to build for a target.

    Returns:
        The packages by the names of their programs, and why there are none.
    """
    main = context.settings.project.main
    if shutil.which("go") is None:
        return {context.name: main}, ""  # reported as a missing tool
    if main != ".":
        return _configured(context, target, main)
    found, error = _list(context, target, ".", "./cmd/...")
    root = str(context.project_dir.resolve())
    mains = [one for one in found if one["Name"] == "main"]
    if any(one["Dir"] == root for one in mains):
        return {context.name: "."}, ""
    direct = [one for one in mains if Path(one["Dir"]).parent == Path(root, "cmd")]
    if not direct:
        where = shlex.quote(str(context.project_dir))
        why = f" ({error})" if error else ""
        return {}, (
            f"there is no program for {target} in {where} or its cmd/*{why}: "
            "set project.main in .core/build.yaml to the package to build"
        )
    names = sorted(Path(one["Dir"]).name for one in direct)
    if len(names) == 1:
        return {context.name: f"./cmd/{names[0]}"}, ""
    return {name: f"./cmd/{name}" for name in names}, ""


def local_modules(project_dir: Path) -> list[Path]:
    """The directories that go.mod and go.work refer to, and go.work itself."""
    found: list[Path] = []
    modules = [project_dir]
    if workspace := _workspace(project_dir):
        found += [workspace, workspace.with_suffix(".work.sum")]
        used = _directories(workspace)
        found += used
        modules += used
    found += [path for module in modules for path in _directories(module / "go.mod")]
    return [path for path in dict.fromkeys(found) if path.exists()]


def files_of_packages(context: BuildContext, targets: Sequence[Target]) -> list[Path]:
    """All files that Go reads for the programs, except those of the standard library and caches."""
    if shutil.which("go") is None:
        return []

    def files(target: Target) -> set[Path]:
        mains, _ = find_mains(context, target)
        listed, _ = _list(context, target, *mains.values(), deps=True) if mains else ([], "")
        return {path for package in listed for path in _files(package)}

    with ThreadPoolExecutor(max(1, context.threads)) as pool:
        return sorted({path for found in pool.map(files, targets) for path in found})


def _configured(context: BuildContext, target: Target, main: str) -> tuple[dict[str, str], str]:
    package = main if main.startswith("./") else f"./{main}"
    found, error = _list(context, target, package)
    mains = [one for one in found if one["Name"] == "main"]
    if not mains:
        what = f"is package {found[0]['Name']}, not a program" if found else "is not a package"
        why = f" ({error})" if error and not found else ""
        return {}, f"project.main: {main} {what} for {target}{why}"
    if len(mains) == 1:
        return {context.name: package if "..." not in package else _relative(context, mains[0])}, ""
    return {Path(one["Dir"]).name: _relative(context, one) for one in mains}, ""


def _relative(context: BuildContext, package: dict[str, Any]) -> str:
    return f"./{os.path.relpath(package['Dir'], context.project_dir.resolve())}"


def _list(
    context: BuildContext, target: Target, *patterns: str, deps: bool = False
) -> tuple[list[dict[str, Any]], str]:
    """Run ``go list``: packages without an error, and the first error."""
    fields = ["Dir", "Name", "Standard", "Module", "ImportPath", "Error", *(_FILES if deps else ())]
    mode = ("-deps",) if deps else ("-find",)
    # -mod=mod would let Go change go.mod and go.sum.
    flags = [*context.settings.build.flags, *inherited(context, "GOFLAGS").split()]
    selecting = [one for one in flags if _SELECTS.match(one) and not one.endswith("mod=mod")]
    command = ("go", "list", "-e", *mode, *selecting, f"-json={','.join(fields)}", "--", *patterns)
    env = {
        **os.environ,
        **build_environment(context),
        **go_environment(context, target),
        "GOFLAGS": "",
        "GOPROXY": "off",  # a plan does not use the network
    }
    for name in left_out(context):
        env.pop(name, None)
    try:
        done = subprocess.run(
            command,
            cwd=context.project_dir,
            env=env,
            capture_output=True,
            text=True,
            errors="replace",
            umask=0o022,
            check=False,
            timeout=_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], str(error)
    packages = list(_objects(done.stdout))
    errors = [str(one["Error"].get("Err", "")) for one in packages if one.get("Error")]
    good = [one for one in packages if one.get("Name") and one.get("Dir")]
    lines = done.stderr.strip().splitlines()
    lines = [line for line in lines if not line.startswith("go: downloading")] or lines
    message = next(iter([*errors, *lines[:1]]), "")
    return good, " ".join(message.split())


_SELECTS = re.compile(r"--?(tags|mod|modfile|overlay)=")
"""Flags of the build command that choose files."""


def _objects(text: str) -> Iterator[dict[str, Any]]:
    decoder, at = json.JSONDecoder(), 0
    while (at := next((i for i in range(at, len(text)) if not text[i].isspace()), -1)) >= 0:
        try:
            value, at = decoder.raw_decode(text, at)
        except ValueError:
            return
        yield value


def _files(package: dict[str, Any]) -> Iterator[Path]:
    module = package.get("Module") or {}
    fetched = bool(module.get("Version")) and "Replace" not in module
    replaced = bool((module.get("Replace") or {}).get("Version"))
    if package.get("Standard") or fetched or replaced:
        return
    for kind in _FILES:
        for name in package.get(kind) or ():
            yield Path(package["Dir"], name)


def _workspace(project_dir: Path) -> Path | None:
    given = os.environ.get("GOWORK", "")
    if given:
        return None if given == "off" else Path(given)
    places = (directory / "go.work" for directory in (project_dir, *project_dir.parents))
    return next((path for path in places if path.is_file()), None)


def _directories(file: Path) -> list[Path]:
    try:
        text = re.sub(r"//[^\n]*", "", file.read_text(errors="replace"))
    except OSError:
        return []
    return [Path(os.path.normpath(file.parent / found)) for found in _LOCAL.findall(text)]

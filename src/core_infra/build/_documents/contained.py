"""The packages that are in the artifacts, as the compiler, lock files or images list them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_infra.build._builders.node import workspace_root
from core_infra.build._builders.rust import TRIPLES
from core_infra.build._documents.lock_files.dependency import Dependency, reachable
from core_infra.build._documents.lock_files.read import dependencies, unread
from core_infra.build._documents.provenance import PROVENANCE, Source
from core_infra.build._documents.sbom import SBOM
from core_infra.build._project import ProjectType
from core_infra.build._sources.git import git_environment
from core_infra.medium._local import LocalMedium

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core_infra.build._artifact import Artifact
    from core_infra.build._plan import BuildPlan

_TIMEOUT = 120.0
_GO = (ProjectType.GO, ProjectType.WAILS)


def contained(plan: BuildPlan, built: Sequence[Artifact]) -> tuple[list[Dependency], list[str]]:
    """Return the packages in a release's artifacts, and why the list may be incomplete.

    Go programs contain the list of their modules; for Rust, cargo resolves the dependencies of each
    target; LinuxKit images have a bill of materials of their own. For other types, the lock files
    have the packages that are needed at run time.

    Raises:
        CoreInfraError: a lock file is malformed or cannot be read.
    """
    project = plan.context.project_dir
    if plan.type in _GO and (found := _in_programs(built)) is not None:
        medium = LocalMedium(project)
        front = [one for one in dependencies(medium, ".") if one.kind != "golang"]
        return sorted({*found, *front}), unread(medium, ".")
    if plan.type is ProjectType.RUST:
        targets = [TRIPLES[str(target)] for target in plan.targets]
        crates = [_crates(project, triple) for triple in targets]
        if all(one is not None for one in crates):
            return sorted({crate for one in crates for crate in one or ()}), []
    if plan.type is ProjectType.LINUXKIT:
        return sorted(_in_images(built)), []
    where = project if plan.type is not ProjectType.NODE else workspace_root(project)
    medium = LocalMedium(where)
    return dependencies(medium, "."), unread(medium, ".")


def image_sources(built: Sequence[Artifact]) -> list[Source]:
    """Return the OCI images that LinuxKit images were made of, with their digests."""
    found = [
        Source(one["uri"], one["digest"])
        for document in _image_documents(built, PROVENANCE)
        for one in document["predicate"]["buildDefinition"]["resolvedDependencies"]
    ]
    return list({(one.uri, *one.digest.items()): one for one in found}.values())


def _in_images(built: Sequence[Artifact]) -> set[Dependency]:
    """The OCI images and the packages that the documents of LinuxKit images list."""
    return {
        Dependency(
            one["purl"].removeprefix("pkg:").partition("/")[0],
            "/".join(part for part in (one.get("group"), one["name"]) if part),
            one.get("version", ""),
        )
        for document in _image_documents(built, SBOM)
        for one in document.get("components", ())
        if "purl" in one
    }


def _image_documents(built: Sequence[Artifact], suffix: str) -> list[Any]:
    """The documents ``NAME-suffix`` of images; none if the program linuxkit has built them."""
    folders = sorted({Path(artifact.path) for artifact in built})
    paths = [path for folder in folders for path in sorted(folder.glob(f"*-{suffix}"))]
    return [json.loads(path.read_bytes()) for path in paths]


def _in_programs(built: Sequence[Artifact]) -> set[Dependency] | None:
    """The modules in Go programs; None if Go cannot read one."""
    found: set[Dependency] = set()
    for artifact in built:
        path = Path(artifact.path)
        files = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]
        texts = [text for one in files if (text := _run("go", "version", "-m", str(one)))]
        modules = [_modules(text) for text in texts if "\tpath\t" in text]
        if not modules:
            return None
        found.update(one for listed in modules for one in listed)
    return found


def _modules(text: str) -> Iterator[Dependency]:
    """Parse ``go version -m``: ``dep``, its module and version; ``=>`` replaces the line before."""
    last: Dependency | None = None
    for line in text.splitlines():
        kind, *fields = line.strip("\t").split("\t")
        if kind not in {"dep", "=>"}:
            continue
        if kind == "dep" and last is not None:
            yield last
        name, version = (*fields, "", "")[:2]
        local = name.startswith((".", "/")) or version == "(devel)"
        if kind == "dep":
            last = Dependency("golang", name, "" if version == "(devel)" else version)
        elif local and last is not None:
            last = last._replace(version="")
        else:
            last = Dependency("golang", name, version)
    if last is not None:
        yield last


def _crates(project: Path, triple: str) -> set[Dependency] | None:
    """The crates that are compiled into the programs for a target; None if cargo cannot tell."""
    options = ("--format-version=1", "--locked", "--offline", "--filter-platform", triple)
    output = _run("cargo", "metadata", *options, directory=project)
    if not output:
        return None
    data = json.loads(output)
    nodes: dict[str, Any] = {one["id"]: one for one in data["resolve"]["nodes"]}
    packages: dict[str, Any] = {one["id"]: one for one in data["packages"]}
    root = data["resolve"]["root"]
    roots = [root] if root else data["workspace_members"]

    def following(key: str) -> Iterator[str]:
        for one in nodes[key]["deps"]:
            if any(kind["kind"] is None for kind in one["dep_kinds"]):  # not "dev" or "build"
                yield one["pkg"]

    crates = (packages[key] for key in reachable(roots, following))
    foreign = (one for one in crates if one["source"] is not None)
    return {Dependency("cargo", one["name"], one["version"]) for one in foreign}


def _run(*argv: str, directory: Path | None = None) -> str:
    if shutil.which(argv[0]) is None:
        return ""
    done = subprocess.run(
        argv,
        cwd=directory,
        env={**git_environment(), "LC_ALL": "C", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=_TIMEOUT,
    )
    return done.stdout if done.returncode == 0 else ""

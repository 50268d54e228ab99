"""Builds the packages of a release, and lays out what they contain."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build._archive_rules import archive_files
from core_infra.build._artifact import Artifact
from core_infra.build._builders.steps import Tool
from core_infra.build._documents.checksums import checksum
from core_infra.build._packages.deb import DEB_ARCHITECTURES, build_deb
from core_infra.build._packages.package import Package, package_version
from core_infra.build._packages.rpm import RPM_ARCHITECTURES, build_rpm
from core_infra.errors import InvalidError
from core_infra.medium._local import LocalMedium

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from core_infra.build._artifact import Target
    from core_infra.build._builders.steps import BuildContext
    from core_infra.build._plan import BuildPlan

_FORMATS = {"deb": (DEB_ARCHITECTURES, build_deb), "rpm": (RPM_ARCHITECTURES, build_rpm)}
_TOOLS = {
    "deb": Tool("dpkg-deb", ("dpkg-deb", "--version"), "Install it: apt-get install dpkg."),
    "rpm": Tool("rpmbuild", ("rpmbuild", "--version"), "Install it: apt-get install rpm."),
}
_UNFIT = re.compile(r"[^a-z0-9.+-]+")


def package_tools(context: BuildContext, targets: Sequence[Target]) -> list[Tool]:
    """The programs that build the configured packages."""
    if not any(target.os == "linux" for target in targets):
        return []
    return [_TOOLS[form] for form in context.settings.packages.formats]


def package_problems(
    context: BuildContext, targets: Sequence[Target], *, part: bool = False
) -> list[str]:
    """Why packages cannot be built, one sentence each.

    Args:
        context: the builder's input.
        targets: the platforms.
        part: whether other hosts build for other platforms.
    """
    settings = context.settings.packages
    elsewhere = not part and not any(target.os == "linux" for target in targets)
    problems = [
        f"packages: {form} has no name for the architecture {target.arch}"
        for form in settings.formats
        for target in targets
        if target.os == "linux" and not _architecture(form, target)
    ]
    if settings.formats and elsewhere:
        problems.append("packages: none of the targets is Linux")
    if settings.formats and not package_version(context.version)[:1].isdigit():
        problems.append(
            f"packages: their version must start with a digit, not be {context.version!r}: "
            "tag the commit, or use --version"
        )
    if context.settings.oci.image and elsewhere:
        problems.append("oci: none of the targets is Linux")
    problems += [
        f"oci.files: {source} does not exist"
        for source, _ in context.settings.oci.files
        if context.settings.oci.image and not (context.project_dir / source).is_file()
    ]
    problems += [
        f"packages.files: {source} does not exist"
        for source, _ in settings.files
        if settings.formats and not (context.project_dir / source).is_file()
    ]
    return problems


def _architecture(form: str, target: Target) -> str:
    """A format's name of the architecture of a target; empty if it has none."""
    known = _FORMATS[form][0]
    plain = "" if target.variant == "v5" else known.get(target.architecture, "")
    return known.get(target.arch, plain)


def build_packages(plan: BuildPlan, built: Sequence[Artifact]) -> list[Artifact]:
    """Build the configured packages: one for each format and Linux target, with all its programs.

    Raises:
        InvalidError: a target has directories instead of programs.
        BuildFailedError: the distribution's tool failed.
    """
    context, made = plan.context, []
    for form in context.settings.packages.formats:
        for target in plan.targets:
            programs = [one for one in built if (one.os, one.arch) == (target.os, target.arch)]
            if target.os == "linux" and programs:
                made.append(_build(plan, form, target, programs))
    return made


def _build(plan: BuildPlan, form: str, target: Target, programs: Sequence[Artifact]) -> Artifact:
    context, (_, build) = plan.context, _FORMATS[form]
    place = context.scratch(f"{form}-{target.arch}")
    shutil.rmtree(place, ignore_errors=True)
    root = place / "root"
    name = _UNFIT.sub("-", context.name.lower()).strip("-.+")
    _lay_out(plan, programs, root, name)
    package = Package(
        name=name,
        version=package_version(context.version),
        arch=_architecture(form, target),
        root=root,
        epoch=context.epoch,
        settings=context.settings.packages,
        summary=context.settings.project.description or name,
    )
    # Not the distribution's version: GitHub would rename a file with a tilde.
    file = f"{name}_{context.version.removeprefix('v')}_{package.arch}.{form}"
    path = context.assembly() / file
    build(package, place, path)
    return checksum(LocalMedium(), Artifact(str(path), target.os, target.arch))


def _lay_out(plan: BuildPlan, programs: Sequence[Artifact], root: Path, name: str) -> None:
    files: dict[str, tuple[Path, int]] = {}
    for program in programs:
        if program.tree or Path(program.path).is_dir():
            raise InvalidError(
                f"cannot package {program.name}",
                why="packages contain programs, and this is a directory",
                todo="Remove packages from .core/build.yaml.",
                path=program.path,
            )
        files[f"usr/bin/{program.name}"] = Path(program.path), 0o755
        documents: Mapping[str, str] = archive_files(plan, program)
        for inside, path in documents.items():
            files[f"usr/share/doc/{name}/{inside}"] = Path(path), 0o644
    for given, target in plan.context.settings.packages.files:
        own = plan.context.project_dir / given
        files[target.lstrip("/")] = own, 0o755 if os.access(own, os.X_OK) else 0o644
    for target, (source, mode) in files.items():
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, root / target)
        (root / target).chmod(mode)
    for top, directories, inner in os.walk(root):
        for one in directories:
            (Path(top) / one).chmod(0o755)
        for one in (*inner, "."):
            os.utime(Path(top) / one, (plan.context.epoch, plan.context.epoch))
    root.chmod(0o755)

"""What the archives of a release are called, and what they contain besides the program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build._archives.archive import Format, archive_path
from core_infra.build._archives.contents import BUNDLE
from core_infra.build._builders.hooks import COPY as HOOKS_COPY

if TYPE_CHECKING:
    from core_infra.build._artifact import Artifact
    from core_infra.build._builders.steps import BuildContext
    from core_infra.build._plan import BuildPlan


def archive_name(plan: BuildPlan, artifact: Artifact) -> str:
    """The name of an artifact's archive, without its extension."""
    usual = without_extension(archive_path(artifact, Format.GZ).rpartition("/")[2])[0]
    platform = "_".join(filter(None, (artifact.os, artifact.arch)))
    values = {
        "name": usual.removesuffix(f"_{platform}") if platform else usual,
        "version": plan.context.version,
        "os": artifact.os,
        "arch": artifact.arch,
    }
    template = plan.context.settings.archive.name
    if not template:
        return usual
    # Without a version or platform, the separators around it go as well.
    words = template.format(**values).replace("/", "-")
    for separator in "_-":
        while separator * 2 in words:
            words = words.replace(separator * 2, separator)
    return words.strip("_-.")


def without_extension(name: str) -> tuple[str, str]:
    """The name of an archive without its extension, and the extension."""
    extension = next((one.extension for one in Format if name.endswith(one.extension)), "")
    return name.removesuffix(extension), extension


def archive_files(plan: BuildPlan, artifact: Artifact) -> dict[str, str]:
    """The files of the project that the archive of a program contains, by their names in it.

    They are beside the program, or at the top of a directory with what was installed. If there are
    hooks before archives, the files are taken from the copy that they ran in: they may have made
    manuals or completions.
    """
    if not artifact.os:
        return {}
    context = plan.context
    copy = context.copy(HOOKS_COPY) if context.settings.hooks.before_archive else None
    found: dict[str, str] = {}
    for pattern in context.settings.archive.files:
        own = _matching(copy or context.project_dir, pattern, context.outputs)
        # One of several builds has the licence of the whole project, unless it has its own.
        found |= own or (_matching(context.home, pattern, context.outputs) if context.whole else {})
    found.pop(artifact.name, None)
    if artifact.tree and not artifact.name.endswith(BUNDLE):
        tree = Path(artifact.path)
        return {
            f"{tree.name}/{name}": path
            for name, path in found.items()
            if not (tree / name).exists()
        }
    return found


def missing_files(context: BuildContext) -> list[str]:
    """The names in ``archive.files`` that are not patterns, and that the project does not have.

    None if a hook may make them.
    """
    settings = context.settings
    places = {context.project_dir, context.home}
    return [
        name
        for name in settings.archive.files
        if not settings.hooks.before_archive
        and not set("*?[") & set(name)
        and not any((place / name).exists() for place in places)
    ]


def _matching(directory: Path, pattern: str, output: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): str(path)
        for path in directory.glob(pattern)
        if path.is_file() and not path.is_relative_to(output)
    }

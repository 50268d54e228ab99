"""A copy of a repository that can be thrown away: what a build does to it, the original never sees.

Only the objects are shared, as alternates, which git reads and does not write. Everything else is
copied, not linked: ``git gc`` packs the references of the copy, hooks are installed in the copy.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build._errors import SourcesError
from core_infra.build._sources.git import ask

if TYPE_CHECKING:
    from core_infra.build._sources.git import Repository

_SKIPPED = frozenset(
    {
        "objects",
        # They refer to work trees and repositories elsewhere.
        *("worktrees", "modules", "commondir", "gitdir"),
        # Large, and not used without their own tool.
        *("lfs", "annex"),
        "gc.pid",
    }
)


def copy_repository(repository: Repository, work_tree: Path) -> None:
    """Create ``.git`` in a copy of a repository's work tree; it shares only the objects.

    A work tree of ``git worktree`` and a submodule get a repository of their own as well.

    Args:
        repository: the original.
        work_tree: the copy of its work tree.

    Raises:
        OSError: a file cannot be read or written.
        SourcesError: git does not accept the copy.
    """
    copy = work_tree / ".git"
    copy.mkdir()
    _copy_entries(repository.common, copy)
    if repository.directory != repository.common:  # its own HEAD, index, and bisect's references
        _copy_entries(repository.directory, copy)
    (copy / "objects" / "info").mkdir(parents=True)
    (copy / "objects" / "pack").mkdir()
    alternates = copy / "objects" / "info" / "alternates"
    alternates.write_text(f"{(repository.common / 'objects').resolve()}\n")
    _configure(repository, work_tree)
    if (copy / "index").exists():
        # The files of the copy have other times: without this, plumbing reports them as changed.
        # It fails if a file is changed.
        _try(work_tree, "update-index", "-q", "--refresh")


def _configure(repository: Repository, work_tree: Path) -> None:
    edit = ("config", "--file", str(work_tree / ".git" / "config"))
    # Not in the work tree: git refuses to work in one whose configuration leads nowhere.
    where = work_tree.parent
    for name in ("core.worktree", "core.fsmonitor", "core.untrackedCache"):
        _try(where, *edit, "--unset-all", name)
    if _leads_into(_try(where, *edit, "--get", "core.hooksPath").strip(), repository):
        _try(where, *edit, "--unset-all", "core.hooksPath")
    ask(where, *edit, "core.bare", "false")
    for name, value in (("gc.auto", "0"), ("maintenance.auto", "false")):
        ask(where, *edit, name, value)  # a process in the background would outlive the build


def _leads_into(path: str, repository: Repository) -> bool:
    places = (repository.top, repository.common)
    return path.startswith("/") and any(place in Path(path).parents for place in places)


def _try(where: Path, *words: str) -> str:
    try:
        return ask(where, *words)
    except SourcesError:
        return ""


def _copy_entries(source: Path, target: Path) -> None:
    for path in source.iterdir():
        if path.name not in _SKIPPED and not path.name.endswith(".lock"):
            _copy_entry(path, target / path.name)


def _copy_entry(path: Path, target: Path) -> None:
    if path.is_dir():
        target.mkdir(exist_ok=True)
        for inner in path.iterdir():
            if not inner.name.endswith(".lock"):
                _copy_entry(inner, target / inner.name)
    elif path.is_file():  # not the socket of a monitor, or a link to nowhere
        # What a link refers to is copied as well: the repository must not share a file.
        shutil.copyfile(path, target)
        target.chmod(path.stat().st_mode & 0o755 | 0o600)

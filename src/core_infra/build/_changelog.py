"""The notes of a release: its section of the changelog, or the commits since the last version."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from core_infra.build._errors import ArtifactMissingError
from core_infra.build._release_rules import same_version
from core_infra.build._sources.history import is_version, previous_version
from core_infra.build._sources.search import project_repository

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.build._plan import BuildPlan

_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*")
_UNDERLINE = re.compile(r"(=|-)\1{2,}\s*")
_WORD = re.compile(r"[\w.+-]+")
_CONVENTIONAL = re.compile(
    r"(?P<type>[a-z]+)(?:\((?P<scope>[^)]+)\))?(?P<breaking>!)?: +(?P<text>.+)"
)
_BREAKING, _OTHER = "Breaking changes", "Other changes"
_GROUPS = {"feat": "Features", "fix": "Fixes", "perf": "Performance"}
_ORDER = (_BREAKING, *_GROUPS.values(), _OTHER)
_QUIET = frozenset({"build", "chore", "ci", "docs", "refactor", "revert", "style", "test", "tests"})
"""Types of commits that users of a release do not notice."""


def release_notes(plan: BuildPlan) -> str:
    """The notes of a release, in Markdown; empty if there is nothing to say.

    Raises:
        ArtifactMissingError: the changelog was asked for, and has no section of this version.
        SourcesError: git does not answer.
    """
    context, settings = plan.context, plan.context.settings.changelog
    path = context.project_dir / settings.file
    if settings.source in {"auto", "file"}:
        text = path.read_text("utf-8", errors="replace") if path.is_file() else ""
        section = section_of(text, context.version)
        if section is not None:
            return section
        if settings.source == "file":
            raise ArtifactMissingError(
                f"{settings.file} has no section of {context.version}",
                why="" if text else "the file does not exist",
                todo="Write one, or set changelog.from to commits.",
                path=str(path),
            )
    if settings.source == "none":
        return ""
    return grouped(_commits(context.project_dir, context.settings.project.tag_prefix))


def section_of(text: str, version: str) -> str | None:
    """The text under the heading of a version, as in ``## [1.2.3] - 2026-01-02``; None if missing.

    It ends at the next heading of the same or a higher level.
    """
    lines = text.splitlines()
    fenced, level, found = False, 0, []
    for number, line in enumerate(lines):
        fenced ^= line.lstrip().startswith(("```", "~~~"))
        depth, title = (0, "") if fenced else _heading(lines, number)
        if level and depth and depth <= level:
            break
        if level:
            found.append(line)
        elif depth and _names(title, version):
            level = depth
    if found and _UNDERLINE.fullmatch(found[0]):
        found.pop(0)
    return "\n".join(found).strip() if level else None


def _heading(lines: list[str], number: int) -> tuple[int, str]:
    """The level and the text of a heading; 0 for another line."""
    if match := _HEADING.fullmatch(lines[number]):
        return len(match[1]), match[2]
    following = lines[number + 1] if number + 1 < len(lines) else ""
    if lines[number].strip() and (under := _UNDERLINE.fullmatch(following)):
        return (1 if under[1] == "=" else 2), lines[number].strip()
    return 0, ""


def _names(title: str, version: str) -> bool:
    words = (word.strip("[]().,:-") for word in _WORD.findall(title))
    return any(same_version(word, version) for word in words if is_version(word))


def grouped(subjects: list[tuple[str, str]]) -> str:
    """Commits as a list, grouped if they follow https://www.conventionalcommits.org.

    Args:
        subjects: the subject and the body of each commit, the newest first.
    """
    groups: dict[str, list[str]] = {}
    conventional = False
    for subject, body in subjects:
        match = _CONVENTIONAL.fullmatch(subject)
        known = match and match["type"] in {*_GROUPS, *_QUIET}
        if match is None or not known:
            groups.setdefault(_OTHER, []).append(subject)
            continue
        conventional = True
        breaking = match["breaking"] or re.search(r"^BREAKING[ -]CHANGE: ", body, re.MULTILINE)
        if match["type"] in _QUIET and not breaking:
            continue
        scope = f"**{match['scope']}:** " if match["scope"] else ""
        group = _BREAKING if breaking else _GROUPS.get(match["type"], _OTHER)
        groups.setdefault(group, []).append(scope + match["text"])
    if not conventional:
        return "\n".join(f"- {line}" for line in groups.get(_OTHER, ()))
    parts = [
        "\n".join([f"### {title}", "", *(f"- {line}" for line in groups[title])])
        for title in _ORDER
        if title in groups
    ]
    return "\n\n".join(parts)


def _commits(project: Path, prefix: str) -> list[tuple[str, str]]:
    repository = project_repository(project)
    if repository is None:
        return []
    last = previous_version(project, prefix=prefix)
    words = ["log", "--no-merges", "--format=%s%x00%b%x00%x1e"]
    listed = repository.ask(*words, f"{last}..HEAD" if last else "HEAD", "--", str(project))
    commits = (one.strip("\n").split("\0") for one in listed.split("\x1e") if one.strip("\n"))
    return [(commit[0], commit[1]) for commit in commits]

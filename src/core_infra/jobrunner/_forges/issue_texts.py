"""The checklist of an epic, and the issues that the text of a pull request closes.

Texts are parsed as CommonMark, so that comments, code and quoted HTML do not count.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, NamedTuple

from core_infra.errors import UnavailableError
from core_infra.jobrunner._forges.forge import Repo

try:
    from markdown_it import MarkdownIt
except ImportError as missing:
    raise UnavailableError(
        "cannot read the text of an issue",
        why="that needs markdown-it-py",
        todo="Install it with: pip install core-infra[jobs]",
    ) from missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from markdown_it.token import Token

    from core_infra.jobrunner._forges.forge import Epic

# Bounded and without backtracking: the texts cannot be trusted.
_NUMBER = r"(?P<number>[0-9]{1,10})(?![\w])"
_NAME = r"(?P<owner>[\w.-]{1,100})/(?P<name>[\w.-]{1,100})"
_ISSUE = (
    rf"(?:https?://(?P<host>[\w.:-]{{1,200}})/(?P<path>(?:[\w.-]{{1,100}}/){{2,5}})"
    rf"(?:issues|pulls?)/(?P<linked>[0-9]{{1,10}})(?![\w/]))"
    rf"|(?:(?<![\w./-]){_NAME}\#(?P<there>[0-9]{{1,10}})(?!\w))"
    rf"|(?:(?<![\w/&\#.-])(?:\#|GH-){_NUMBER})"
)
_REFERENCE = re.compile(_ISSUE, re.ASCII | re.IGNORECASE)
_CLOSING = re.compile(
    r"(?<![\w-])(?:close[sd]?|fix(?:es|ed)?|resolve[sd]?):?[ \t\n]{1,5}(?=https?://|[\w./-]*\#|GH-)",
    re.ASCII | re.IGNORECASE,
)
_TASK = re.compile(r"\[([ xX\u00a0])\](?=\s|$)")
_LOOSE = re.compile(r"^[ \t]*(?:[-*+]|[0-9]{1,9}[.)])[ \t]+\[[ \u00a0]\]", re.MULTILINE)
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")
_COMMENT_MAX = 60_000
"""A little less than GitHub's limit for a comment."""
_HERE = Repo("", "")
_MARKDOWN = MarkdownIt("commonmark", {"maxNesting": 100})


class Box(NamedTuple):
    """One box of a checklist: ``- [ ] #42 what it is about``.

    Attributes:
        line: its line in the text, from 0.
        child: the issue that it names; 0 if it names none.
        ticked: whether it is ticked.
        repo: the repository of the issue; empty if it is that of the text.
        place: where the character between its brackets is in the text.
    """

    line: int
    child: int
    ticked: bool
    repo: Repo = _HERE
    place: int = 0


@functools.lru_cache(maxsize=1024)
def tasks(body: str, here: Repo = _HERE, host: str = "") -> Sequence[Box]:
    """All boxes of a text, those included that name no issue.

    The issue of a box is the one that its text starts with, or the only one in it.

    Args:
        body: the text.
        here: the repository of the text.
        host: the forge, for addresses of issues; an address at another host names none.
    """
    return tuple(_tasks(body, here, host))


def _tasks(body: str, here: Repo, host: str) -> Iterator[Box]:
    lines = [match.group() for match in _LINE.finditer(body)]
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    tokens = _MARKDOWN.parse(body)
    for number, token in enumerate(tokens):
        if token.type != "inline" or token.map is None:
            continue
        first = token.map[0]
        found = None
        if number > 1 and tokens[number - 2].type == "list_item_open":
            found = _TASK.match(token.content)
        if found:
            text, _, rest = token.content.partition("\n")
            place = starts[first] + lines[first].rfind(text.rstrip()) + 1
            repo, child = _issue_of(token.children or [], host)
            if _same(repo, here):
                repo = _HERE
            yield Box(first, child, found[1] in "xX", repo, place)
        else:
            rest = token.content
        # Tasks by their look, in the middle of a paragraph: a person takes them for boxes.
        for loose in _LOOSE.finditer(rest):
            at = first + (1 if found else 0) + rest.count("\n", 0, loose.start())
            yield Box(at, 0, ticked=False)


def boxes(body: str, here: Repo = _HERE, host: str = "") -> Iterator[Box]:
    """The boxes that name an issue."""
    return (box for box in tasks(body, here, host) if box.child)


def tick(body: str, child: int, repo: Repo = _HERE, here: Repo = _HERE, host: str = "") -> str:
    """The text with the boxes of a child ticked; nothing else changes, not even line ends.

    Args:
        body: the text.
        child: the number of the child.
        repo: its repository.
        here: the repository of the text.
        host: the forge.
    """
    wanted = _HERE if _same(repo, here) else repo
    for box in boxes(body, here, host):
        if box.child == child and _same(box.repo, wanted) and not box.ticked:
            body = f"{body[: box.place]}x{body[box.place + 1 :]}"
    return body


def is_complete(epic: Epic, here: Repo, host: str = "") -> bool:
    """Whether all boxes of an epic are ticked, also those that name no issue, and there are any.

    Issues that the forge lists below it must be closed.
    """
    every = [box.ticked for box in tasks(epic.body, here, host)]
    every += [not one.is_open for one in epic.sub_issues]
    return bool(every) and all(every)


def in_block(text: str) -> str:
    """A text as code, cut to 60,000 characters: nothing in it is a mention, a link or a command."""
    quoted = text[:_COMMENT_MAX].replace("`", "'")
    return f"```\n{quoted}\n```"


def closed_issues(body: str, repo: Repo, host: str = "") -> set[int]:
    """The issues of a repository that merging a pull request with this text closes.

    As forges do, this looks for a word such as "closes" before ``#42``, ``GH-42``,
    ``owner/repo#42`` or an address; not in code, quotes, comments and links with other texts.
    """
    found = set()
    for text in _prose(body):
        for word in _CLOSING.finditer(text):
            match = _REFERENCE.match(text, word.end())
            if (
                match
                and (named := _target(match, host))
                and (named[0] == _HERE or _same(named[0], repo))
            ):
                found.add(named[1])
    return found


def _issue_of(children: Sequence[Token], host: str) -> tuple[Repo, int]:
    text = _text(children, links=True)
    text = text[_start(text) :]
    found = [named for match in _REFERENCE.finditer(text) if (named := _target(match, host))]
    if not found:
        return _HERE, 0
    leading = re.match(r"[^\w#/]*", text)
    is_leading = leading and _REFERENCE.match(text, leading.end())
    return found[0] if is_leading or len(set(found)) == 1 else (_HERE, 0)


def _same(one: Repo, other: Repo) -> bool:
    # Forges ignore case in names.
    return "/".join(one).lower() == "/".join(other).lower()


def _start(text: str) -> int:
    match = _TASK.match(text)
    return match.end() if match else 0


def _target(match: re.Match[str], host: str) -> tuple[Repo, int] | None:
    if match["linked"]:
        parts = match["path"].strip("/").split("/")
        there = "/".join([match["host"], *parts[:-2]])
        if host and there.lower() != host.lower():
            return None
        repo, number = Repo(*parts[-2:]), match["linked"]
    elif match["there"]:
        repo, number = Repo(match["owner"], match["name"]), match["there"]
    else:
        repo, number = _HERE, match["number"]
    return (repo, int(number)) if int(number) else None


def _prose(body: str) -> Iterator[str]:
    """The text of paragraphs, without code, quotes, HTML and the texts of links."""
    quotes = html = 0
    for token in _MARKDOWN.parse(body):
        quotes += {"blockquote_open": 1, "blockquote_close": -1}.get(token.type, 0)
        if token.type == "html_block":
            # What a bot quotes is between such tags, with Markdown in between.
            html += len(re.findall(r"<(?:details|blockquote)\b", token.content, re.IGNORECASE))
            html -= len(re.findall(r"</(?:details|blockquote)>", token.content, re.IGNORECASE))
        elif token.type == "inline" and not quotes and html <= 0:
            yield _text(token.children or [], links=False)


def _text(children: Sequence[Token], *, links: bool) -> str:
    """The visible text; of a link its address, if wanted."""
    parts: list[str] = []
    inside = 0
    for token in children:
        if token.type == "link_open":
            inside += 1
            is_auto = token.markup == "autolink"
            parts.append(f" {token.attrGet('href')} " if links or is_auto else " \0 ")
        elif token.type == "link_close":
            inside -= 1
        elif inside:
            continue
        elif token.type == "text":
            parts.append(token.content.replace("~~", " "))
        elif token.type in {"softbreak", "hardbreak"}:
            if links:
                break  # the first line of a box is what it is about
            parts.append("\n")
        elif token.type in {"code_inline", "html_inline"}:
            parts.append(" \0 ")
    return "".join(parts)

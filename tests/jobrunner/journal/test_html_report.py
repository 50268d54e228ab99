"""The page, and what it makes of lines."""

from __future__ import annotations

import datetime as dt
import html.parser
from typing import TYPE_CHECKING, Any

from core_infra.jobrunner import Entry, Phase, group_actions, html_report
from jobs.samples import NOON, end, intent, result, signal

if TYPE_CHECKING:
    from core_infra.jobrunner import Journal


class Page(html.parser.HTMLParser):
    """What a browser makes of it: tags, links and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.text += data


def shown(journal: Journal, **options: Any) -> Page:
    return Page(html_report(journal.entries(), journal.verify(), now=NOON, **options))


def test_lines_of_one_action_are_put_together(journal: Journal) -> None:
    journal.write([intent(1), end(1, success=False, error="no"), intent(2)])
    journal.write([intent(1, attempt=2), end(1, attempt=2), end(3, phase=Phase.UNKNOWN)])
    journal.append(signal(), result())
    found = {action.first.id: action for action in group_actions(journal.entries())}
    assert {name: action.outcome for name, action in found.items()} == {
        "id-1": "done",
        "id-2": "open",
        "id-3": "unknown",
        "": "done",
    }
    assert found["id-1"].attempts == 2
    assert found["id-1"].item == "acme/widgets#5"


def test_the_page_shows_what_happened(journal: Journal) -> None:
    on_forge = signal(forge="github.com")
    failed = result(on_forge, success=False, error="it\nbroke", duration_ms=90_000)
    journal.append(on_forge, failed)
    journal.append(signal(), result(ts=NOON - dt.timedelta(days=2)))
    found = shown(journal)
    assert "2 lines in 2 files; every chain holds." in found.text
    assert "it\nbroke" in found.text
    assert "1.5 min" in found.text
    assert found.links == ["https://github.com/acme/widgets/issues/5"]


def test_an_empty_journal_has_a_page_too(journal: Journal) -> None:
    assert "Nothing was done yet." in shown(journal).text


def test_only_the_youngest_are_listed_and_all_are_counted(journal: Journal) -> None:
    journal.write([end(number, cycle=1000 + number) for number in range(30)])
    found = shown(journal, limit=10)
    assert "The latest 10 of 30." in found.text
    assert "1029" in found.text
    assert "1019" not in found.text


def test_nothing_of_strangers_becomes_part_of_the_page(journal: Journal) -> None:
    evil = '"><script>alert(1)</script><img src=x onerror=alert(1)>$now${rows}'
    seen = signal(repo_owner=evil, repo_name=evil, forge="evil/@x", issue_title=evil)
    hostile = Entry.of_result(seen, result(seen, success=False, error=evil, action=evil), id=evil)
    journal.write([hostile])
    found = shown(journal)
    assert found.tags.count("script") == 1
    assert "img" not in found.tags
    assert found.links == []
    assert evil in found.text


def test_tampering_is_shown(journal: Journal) -> None:
    journal.write([end(1), end(2)])
    (path,) = journal.files()
    with open(f"{journal.base_dir}/{path}", "r+b") as file:  # noqa: PTH123
        file.seek(30)
        file.write(b"9")
    assert f"{path}, line 1" in shown(journal).text

"""The checklist of an epic, and the issues that a pull request closes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_infra.jobrunner import Epic, Repo
from core_infra.jobrunner._forges.issue_texts import boxes, closed_issues, is_complete, tasks, tick

HERE = Repo("acme", "widgets")
HOST = "git.example.org"


@pytest.mark.parametrize(
    ("body", "children"),
    [
        ("<!--\n- [ ] #9 example\n-->\n- [ ] #8\n", [8]),
        ("````md\n```\n- [ ] #9\n```\n- [ ] #8\n````\n", []),
        ("```\n```python\n- [ ] #9\n```\n", []),
        ("- x\n\n    ```\n    - [ ] #9\n    ```\n", []),
        ("para\n\n    - [ ] #9\n", []),
        ("~~~\n```\n- [ ] #9\n~~~\n", []),
        ("```\n- [ ] #9\n", []),
        ("<pre>\n- [ ] #9\n</pre>\n", []),
        ("- [ ] #9\r\n- [x] #8\r- [X] #7", [9, 8, 7]),
        ("* [ ] #9\n+ [ ] #8\n1. [ ] #7\n2) [ ] #6\n", [9, 8, 7, 6]),
        ("> - [ ] #9\n\n- x\n  - [ ] #8\n", [9, 8]),
        ("- [ ] #9abc\n- [ ] #٤٢\n- [] #4\n-[ ] #5\n", []),
        ("- [ ] the parser #9\n- [ ] **#8**\n- [ ] ~~#7~~\n- [ ] 🚀 GH-6\n", [9, 8, 7, 6]),
        ("- [ ] #9 after #8\n- [ ] first #8, then #9\n", [9]),
        (f"- [ ] https://{HOST}/acme/widgets/issues/9\n", [9]),
        (f"- [ ] [x](https://{HOST}/acme/widgets/issues/9)\n- [ ] [#8](https://x/8)", [9]),
        ("- [ ] https://other.example.org/acme/widgets/issues/9\n", []),
        ("- [ ] `#9`\n", []),
    ],
)
def test_boxes_that_name_an_issue(body: str, children: list[int]) -> None:
    assert [box.child for box in boxes(body, HERE, HOST)] == children


@pytest.mark.parametrize(
    "line",
    [
        *("- [ ] write the guide", "- [ ] acme/gears#7", "- [ ]\u00a0#9", "-\t[ ] #9", "-  [ ] x"),
        *(
            "- [\u00a0] #9",
            "1. [ ] #9",
            "- x\n" + "\t" * 21 + "- [ ] #9",
            "> - [ ] #9",
            "- [ ] `x`",
        ),
    ],
)
def test_any_open_box_keeps_an_epic_open(line: str) -> None:
    assert not is_complete(Epic(1, f"- [x] #2 done\n{line}\n"), HERE)
    assert is_complete(Epic(1, f"- [x] #2 done\n<!--\n{line.splitlines()[-1]}\n-->\n"), HERE)


def test_a_child_of_another_repository() -> None:
    body = "- [ ] acme/gears#7\n- [ ] #7\n- [ ] Acme/Widgets#8\n"
    assert [(box.repo.name, box.child) for box in boxes(body, HERE)] == [
        *(("gears", 7), ("", 7), ("", 8)),
    ]
    assert tick(body, 7, Repo("acme", "gears"), HERE) == body.replace("[ ] acme", "[x] acme")
    assert tick(body, 7, HERE, HERE) == body.replace("[ ] #7", "[x] #7")


def test_ticking_changes_nothing_else() -> None:
    body = "- [ ] #42 one [ ]\r\n* [ ] #4\r1. [ ] **#42**\n> - [ ] #42\n-\t[ ] #42 \n`- [ ] #42`"
    assert tick(body, 42) == (
        "- [x] #42 one [ ]\r\n* [ ] #4\r1. [x] **#42**\n> - [x] #42\n-\t[x] #42 \n`- [ ] #42`"
    )


@given(st.text(alphabet="- [x]#12`~\n\r*>\t"), st.integers(1, 22))
def test_ticking_changes_only_boxes_of_that_child(body: str, child: int) -> None:
    ticked = tick(body, child)
    assert len(ticked) == len(body)
    assert not [box for box in boxes(ticked) if box.child == child and not box.ticked]
    others = [box for box in tasks(body) if box.child != child]
    assert [box for box in tasks(ticked) if box.child != child] == others


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        ("Fixes #1, closes: #2 (see #3) other/repo#4 a#5 &#6; http://x/#7", {1, 2}),
        ("closes #1, #2 and #3; RESOLVED GH-4\nfix\n#5", {1, 4, 5}),
        (f"Closes acme/widgets#1, closes https://{HOST}/acme/widgets/issues/2", {1, 2}),
        ("Closes other/thing#42, closes https://x.example/acme/widgets/issues/3", set()),
        ("<!-- closes #1 -->\n`closes #2`\n\n```\nfixes #3\n```\n\n> closes #4\n", set()),
        ('<li>Fix crash (<a href="https://x/issues/42">#42</a>)</li>', set()),
        ("- fix: x ([#42](https://redirect.example.org/up/stream/issues/42))", set()),
        ("<details>\n\nFixes #42\n\n</details>\n\ncloses #1", {1}),
        ("closes #8a, closes #0, encloses #9, disclose #10", set()),
    ],
)
def test_the_issues_that_a_pull_request_closes(text: str, closed: set[int]) -> None:
    assert closed_issues(text, HERE, HOST) == closed


@pytest.mark.parametrize(
    "text",
    [
        *("- [ ] " * 10_000, "#" * 60_000, "close " * 10_000, " " * 60_000 + "- [ ] #1"),
        *("[a](" * 15_000, "*a_" * 20_000, "<details>\n\n" * 5_000, "- [ ] " + "a/" * 30_000),
    ],
)
def test_hostile_texts_take_no_time(text: str) -> None:
    start = time.process_time()
    list(tasks(text))
    closed_issues(text, HERE)
    assert time.process_time() - start < 10

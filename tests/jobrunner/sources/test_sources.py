"""Signals from files, checklists and texts of strangers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, BinaryIO

import pytest

from core_infra.errors import InvalidError
from core_infra.jobrunner import DirectorySource, PipelineSignal
from core_infra.medium import LocalMedium, MemoryMedium
from core_infra.medium._errors import PathNotFoundError
from jobs.samples import NOON, result, signal

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.medium import Medium, StrPath


@pytest.fixture
def medium() -> MemoryMedium:
    return MemoryMedium()


def written(child: int, **fields: str) -> str:
    return json.dumps(signal(child_number=child, **fields).to_dict())


def numbers(medium: Medium) -> list[int]:
    return [signal.child_number for signal in DirectorySource(medium, "in").poll()]


def test_each_file_is_a_signal_or_a_list(medium: MemoryMedium) -> None:
    medium.write_text("in/b.json", f"[{written(2)}, {written(3)}]")
    medium.write_text("in/a.json", json.dumps(signal(child_number=1).to_dict()))
    medium.write_text("in/notes.txt", "no signal")
    medium.ensure_dir("in/c.json")
    assert numbers(medium) == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "as JSON"),
        ('{"child_number": 1', "as JSON"),
        ("[" * 100_000, "as JSON"),
        ('{"child_number": "x"}', "child_number: Input should be"),
        ('{"pr_state": "ODD"}', "pr_state: Input should be"),
        ('{"childnumber": 1}', "there is no field childnumber"),
        ("5", "signal 1 of 'in/bad.json'"),
        (f"[{written(7)}, 5]", "signal 2 of 'in/bad.json'"),
        (f"[{written(7)}, {written(8, repo_owner='')}]", "signal 2 of 'in/bad.json': repo_owner"),
        (written(8, repo_name=""), "signal 1 of 'in/bad.json': repo_name is empty"),
        (f"{written(7)}{' ' * (1 << 20)}", "in/bad.json': it has more than 1 MiB"),
        ("\ud800", None),
    ],
)
def test_a_bad_file_is_reported_and_the_others_are_read(
    medium: MemoryMedium, caplog: pytest.LogCaptureFixture, text: str, told: str | None
) -> None:
    medium.write_bytes("in/bad.json", text.encode("utf-8", "surrogatepass"))
    medium.write_text("in/good.json", written(5))
    assert numbers(medium) == [5]
    assert (told or "bad.json") in caplog.text


def test_a_link_to_itself_is_reported_and_the_others_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "loop.json").symlink_to("loop.json")
    (tmp_path / "in" / "good.json").write_text(written(5))
    assert numbers(LocalMedium(root=tmp_path)) == [5]
    assert "loop.json" in caplog.text


class Opened(LocalMedium):
    """Remembers what was opened."""

    def __init__(self, root: Path) -> None:
        super().__init__(root=root)
        self.paths: list[str] = []

    def open(self, path: StrPath) -> BinaryIO:
        self.paths.append(str(path))
        return super().open(path)


def test_a_huge_file_is_reported_and_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "good.json").write_text(written(5))
    with (tmp_path / "in" / "huge.json").open("wb") as file:
        file.truncate(1 << 40)  # more than any machine has to read it into
    medium = Opened(tmp_path)
    assert numbers(medium) == [5]
    assert medium.paths == ["in/good.json"]
    assert "huge.json': it has more than 1 MiB" in caplog.text


def test_a_missing_directory_is_an_error(medium: MemoryMedium) -> None:
    with pytest.raises(PathNotFoundError):
        numbers(medium)


def test_results_are_written_beside_the_signals(medium: MemoryMedium) -> None:
    source = DirectorySource(medium, "in")
    source.report(result())
    source.report(result(success=False, error="no"))
    (name,) = medium.list("in/results")
    found = json.loads(medium.read_text(f"in/results/{name}"))
    assert found["error"] == "no"
    assert found["ts"] == "2026-03-04T12:00:00.500000Z"
    assert list(source.poll()) == []


def test_signals_survive_json() -> None:
    seen = signal(last_commit_at=NOON, last_review_at=NOON, issue_title="ü")
    assert PipelineSignal.from_dict(json.loads(json.dumps(seen.to_dict()))) == seen


@pytest.mark.parametrize("fields", [None, [], "x", {"is_draft": "perhaps"}])
def test_fields_that_are_not_a_signal_are_refused(fields: Any) -> None:
    with pytest.raises(InvalidError, match="cannot use a signal"):
        PipelineSignal.from_dict(fields)


def test_what_a_signal_says_of_itself() -> None:
    seen = signal(threads_total=3, threads_resolved=2)
    assert seen.has_unresolved_threads
    assert not signal(threads_total=3, threads_resolved=3).has_unresolved_threads
    assert seen.repo_full_name == "acme/widgets"

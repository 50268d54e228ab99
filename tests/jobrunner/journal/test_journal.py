"""What a journal writes, where, and what it does about damage."""

from __future__ import annotations

import datetime as dt
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_infra.errors import CoreInfraError, InvalidError
from core_infra.jobrunner import ActionStatus, Entry, Index, Journal, Phase, html_report
from core_infra.jobrunner._journal.paths import log_path
from core_infra.medium._errors import StorageError
from jobs.samples import FILE, NOON, end, intent, result, signal

FORKER = Path(__file__).parents[1] / "programs" / "journal_forker.py"


def lines(base: Path, file: str = FILE) -> list[bytes]:
    return (base / file).read_bytes().splitlines(keepends=True)


def test_a_line_has_the_specified_shape(base: Path, journal: Journal) -> None:
    journal.append(signal(), result())
    journal.append(signal(threads_total=3), result(success=False, error="no"))
    first, second = map(json.loads, lines(base))
    assert list(first) == [
        *("ts", "epic", "child", "pr", "repo", "action", "signals", "result", "cycle"),
        *("phase", "sha256"),
    ]
    digest = first.pop("sha256")
    assert len(digest) == 64
    assert first == {
        "ts": "2026-03-04T12:00:00.500000Z",
        "epic": 1,
        "child": 4,
        "pr": 5,
        "repo": "acme/widgets",
        "action": "enable_auto_merge",
        "signals": {
            "pr_state": "OPEN",
            "is_draft": False,
            "check_status": "SUCCESS",
            "mergeable": "MERGEABLE",
            "threads_total": 0,
            "threads_resolved": 0,
        },
        "result": {"success": True, "duration_ms": 12},
        "cycle": 3,
        "phase": "result",
    }
    assert second["result"] == {"success": False, "error": "no", "duration_ms": 12}


def test_the_date_of_the_file_is_utc(base: Path, journal: Journal) -> None:
    east = dt.timezone(dt.timedelta(hours=5))
    journal.append(signal(), result(ts=dt.datetime(2026, 3, 5, 2, tzinfo=east)))
    assert journal.files() == ["acme/widgets/2026-03-04.jsonl"]
    assert json.loads(lines(base)[0])["ts"] == "2026-03-04T21:00:00Z"


def test_a_time_without_zone_is_refused(journal: Journal) -> None:
    naive = dt.datetime(2026, 3, 4)  # noqa: DTZ001 - the point
    with pytest.raises(InvalidError, match="it has no time zone"):
        journal.append(signal(), result(ts=naive))
    assert journal.files() == []


def test_entries_come_back_as_they_went(journal: Journal) -> None:
    hostile = signal(issue_body='\u2028"\\\n\udcff', issue_title="日本")
    written = [
        intent(seen=hostile),
        end(success=False, error="x\ny"),
        end(phase=Phase.UNKNOWN, success=False, error="?"),
    ]
    journal.write(written)
    assert list(journal.entries()) == written
    assert list(journal.entries(since=dt.date(2026, 3, 5))) == []


@pytest.mark.parametrize(
    ("owner", "repo", "path"),
    [
        ("acme", ".github", "acme/.github"),
        ("..", "..", "%2E./%2E."),
        (".", ".", "%2E/%2E"),
        ("../../etc", "a/b", "%2E.%2F..%2Fetc/a%2Fb"),
        ("/etc", "passwd\0", "%2Fetc/passwd%00"),
        ("Ünï", "日本", "%C3%9Cn%C3%AF/%E6%97%A5%E6%9C%AC"),
        (".index.sqlite3", ".core-infra-tmp-x", "%2Eindex.sqlite3/%2Ecore-infra-tmp-x"),
    ],
)
def test_strange_names_stay_beneath_the_base(
    base: Path, journal: Journal, owner: str, repo: str, path: str
) -> None:
    seen = signal(repo_owner=owner, repo_name=repo)
    journal.append(seen, result(seen))
    assert journal.files() == [f"{path}/2026-03-04.jsonl"]
    (line,) = lines(base, f"{path}/2026-03-04.jsonl")
    assert json.loads(line)["repo"] == f"{owner}/{repo}"
    (check,) = journal.verify()
    assert not check.breaks


@given(st.tuples(st.text(min_size=1), st.text(min_size=1)))
def test_any_name_makes_three_usable_parts(names: tuple[str, str]) -> None:
    owner, repo, day = log_path(*names, dt.date(2026, 1, 2)).split("/")
    for part in (owner, repo):
        assert part not in {".", ".."}
        assert part.isascii()
        assert len(part) < 200
        assert not set(part) & set('\0\\:*?"<>| ')
    assert not owner.startswith(".")
    assert day == "2026-01-02.jsonl"


@given(st.lists(st.text(min_size=1), min_size=2, max_size=2, unique=True))
def test_different_names_have_different_places(names: list[str]) -> None:
    day = dt.date(2026, 1, 2)
    assert len({log_path(name, "r", day) for name in names}) == 2
    assert len({log_path("o", name, day) for name in names}) == 2


def test_long_names_have_a_place_too(base: Path, journal: Journal) -> None:
    for end_ in "ab":
        seen = signal(repo_owner="o" * 300 + end_)
        journal.append(seen, result(seen))
    assert len(journal.files()) == 2
    assert all(len(path.name) < 200 for path in base.iterdir())


def test_an_empty_name_is_refused_and_nothing_written(journal: Journal) -> None:
    with pytest.raises(InvalidError, match="the name of the repository is empty"):
        journal.write([end(), Entry.of_result(signal(repo_name=""), result(signal(repo_name="")))])
    assert journal.files() == []


def test_a_link_that_leads_out_is_not_followed(
    base: Path, journal: Journal, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (base / "acme").symlink_to(outside)
    with pytest.raises(CoreInfraError):
        journal.append(signal(), result())
    (base / "acme").unlink()
    (base / "acme" / "widgets").mkdir(parents=True)
    (base / FILE).symlink_to(outside / "file")
    with pytest.raises(CoreInfraError):
        journal.append(signal(), result())
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("cut", [1, 3, 70, 200])
def test_a_torn_last_line_is_kept_aside_and_the_next_record_is_whole(base: Path, cut: int) -> None:
    with Journal(base) as journal:
        journal.write([end(1), end(2)])
    whole = (base / FILE).read_bytes()
    (base / FILE).write_bytes(whole[:-cut])
    with Journal(base) as journal:
        (check,) = journal.verify()
        assert [found.torn for found in check.breaks] == [True]
        assert not check.tampered
        journal.append(signal(), result())
        assert [entry.id for entry in journal.entries()] == ["id-1", ""]
        assert not journal.verify()[0].breaks
        assert journal.files() == [FILE]
    (aside,) = (base / FILE).parent.glob("*.torn-*")
    first = lines(base)[0]
    assert aside.read_bytes() == whole[len(first) : -cut]


def test_blocks_that_never_reached_the_disk_are_kept_aside(base: Path) -> None:
    with Journal(base) as journal:
        journal.write([end(1)])
        start = (base / FILE).stat().st_size
        journal.write([end(number) for number in range(2, 30)])
    torn = bytearray((base / FILE).read_bytes())
    torn[start : start + 4096] = bytes(4096)  # the blocks after it did reach it
    (base / FILE).write_bytes(torn)
    with Journal(base) as journal:
        journal.append(signal(), result())
        assert [entry.id for entry in journal.entries()] == ["id-1", ""]
        assert not journal.verify()[0].breaks
    (aside,) = (base / FILE).parent.glob("*.torn-*")
    assert aside.read_bytes() == torn[start:]


@pytest.mark.parametrize("how", ["change", "drop", "swap", "insert", "digest", "first"])
def test_tampering_is_reported_and_stops_no_writer(base: Path, how: str) -> None:
    with Journal(base) as journal:
        journal.write([end(number) for number in range(5)])
    old = lines(base)
    new = list(old)
    if how == "change":
        new[2] = new[2].replace(b'"pr":5', b'"pr":6')
    elif how == "drop":
        del new[2]
    elif how == "swap":
        new[2], new[3] = new[3], new[2]
    elif how == "insert":
        new.insert(2, new[0])
    elif how == "digest":
        new[2] = new[2][:-10] + b"0" * 7 + new[2][-3:]
    else:
        del new[0]
    (base / FILE).write_bytes(b"".join(new))
    with Journal(base) as journal:
        (check,) = journal.verify()
        assert check.tampered
        assert check.breaks[0].line == (1 if how == "first" else 3)
        assert check.entries == len(new)
        before = len(check.breaks)
        journal.append(signal(), result())
        (check,) = journal.verify()
        assert check.entries == len(new) + 1
        assert len(check.breaks) == before
    assert not list((base / FILE).parent.glob("*.torn-*"))


def test_a_file_in_the_place_of_another_is_reported(base: Path, journal: Journal) -> None:
    journal.append(signal(), result())
    (base / FILE).rename(base / FILE.replace("04.jsonl", "05.jsonl"))
    assert journal.verify()[0].tampered


def test_a_cut_off_end_does_not_stop_the_writer(
    base: Path, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    journal.write([end(1), end(2)])
    (base / FILE).write_bytes(lines(base)[0])
    journal.write([end(3)])
    assert [entry.id for entry in journal.entries()] == ["id-1", "id-3"]
    assert not journal.verify()[0].breaks
    assert "its end was cut off" in caplog.text


def test_a_deleted_file_is_begun_anew(base: Path, journal: Journal) -> None:
    journal.write([end(1)])
    (base / FILE).unlink()
    journal.write([end(2)])
    assert [entry.id for entry in journal.entries()] == ["id-2"]
    assert not journal.verify()[0].breaks


def test_a_full_disk_is_an_error_and_leaves_the_file_as_it_was(
    base: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.write([end(1)])
    before = lines(base)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", full)
        with pytest.raises(StorageError, match="No space left"):
            journal.write([end(2)])
    assert lines(base) == before
    journal.write([end(3)])
    assert [entry.id for entry in journal.entries()] == ["id-1", "id-3"]
    assert not journal.verify()[0].breaks


def test_the_file_of_one_repository_failing_does_not_touch_another(
    base: Path, journal: Journal
) -> None:
    (base / "broken").write_text("a file where a directory must be")
    broken = signal(repo_owner="broken")
    with pytest.raises(CoreInfraError, match="a file is where a directory is needed"):
        journal.write([Entry.of_result(broken, result(broken)), end(1)])
    assert [entry.id for entry in journal.entries()] == ["id-1"]


def test_threads_share_trips_to_the_disk(
    base: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk is busy with the first record, all others wait for one second trip."""
    threads = 20
    entered, go_on = threading.Event(), threading.Event()
    syncs = 0
    sync = os.fdatasync

    def slow(fd: int) -> None:
        nonlocal syncs
        syncs += 1
        entered.set()
        assert go_on.wait(30)
        sync(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    first = threading.Thread(target=journal.append, args=(signal(), result()))
    first.start()
    assert entered.wait(30)
    others = [
        threading.Thread(target=journal.append, args=(signal(), result())) for _ in range(threads)
    ]
    for thread in others:
        thread.start()
    batch = None
    while batch is None or len(batch.items) < threads:
        batch = journal._commits._batch
    go_on.set()
    for thread in [first, *others]:
        thread.join(30)
    assert len(lines(base)) == threads + 1
    assert syncs == 2


def test_what_is_to_come_is_not_pruned(journal: Journal) -> None:
    today = dt.datetime.now(dt.UTC)
    journal.write([intent(1, ts=today), end(1, ts=today)])
    with pytest.raises(InvalidError, match="in the future"):
        journal.prune(today.date() + dt.timedelta(days=2))
    assert len(journal.files()) == 1


def test_pruning_keeps_what_has_no_end(journal: Journal) -> None:
    days = [NOON + dt.timedelta(days=number) for number in range(4)]
    journal.write([intent(1, ts=days[0]), end(1, ts=days[0])])
    journal.write([intent(2, ts=days[1]), intent(3, ts=days[1]), end(2, ts=days[1])])
    journal.write([intent(4, ts=days[2]), end(4, ts=days[3])])
    gone = journal.prune(dt.date(2026, 3, 7))
    assert gone == ["acme/widgets/2026-03-04.jsonl", "acme/widgets/2026-03-06.jsonl"]
    assert journal.files() == ["acme/widgets/2026-03-05.jsonl", "acme/widgets/2026-03-07.jsonl"]
    journal.write([end(3, ts=days[3])])
    assert journal.prune(dt.date(2026, 3, 7)) == ["acme/widgets/2026-03-05.jsonl"]


GARBAGE = [
    b"[" * 100_000,
    b'{"signal":' * 5000 + b"1" + b"}" * 5000,
    *(b'{"repo":"a/b","action":"x","phase":"intent","ts":"2026-03-04T12:00:00Z",' + more + b"}"
      for more in (
          b'"signal":{"x":' + b"[" * 500 + b"]" * 500 + b"}",
          b'"id":[]', b'"id":"x","attempt":99999999999999999999', b'"epic":null',
          b'"ts":"2026-03-04T12:00:00"', b'"ts":"0001-01-01T00:00:00+14:00"', b'"result":5',
      )),
]  # fmt: skip


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_line_that_is_not_an_entry_is_skipped(
    base: Path, journal: Journal, garbage: bytes
) -> None:
    journal.write([intent(1), end(1)])
    with (base / FILE).open("ab") as file:
        file.write(garbage + b"\n")
    journal.write([intent(2)])
    assert [entry.id for entry in journal.entries()] == ["id-1", "id-1", "id-2"]
    assert journal.verify()[0].tampered
    html_report(journal.entries(), journal.verify(), now=NOON)
    with Index(journal) as index:
        index.rebuild()
        assert [state.id for state in index.pending()] == ["id-2"]


def test_what_was_done_stays_known_after_pruning(base: Path, journal: Journal) -> None:
    """Also to an index that is made anew; and not what came of it first, but last."""
    days = [NOON + dt.timedelta(days=number) for number in range(4)]
    journal.write([intent(1, ts=days[0]), end(1, ts=days[0]), intent(2, ts=days[0])])
    journal.write([end(2, ts=days[1], success=False), intent(3, ts=days[1])])
    journal.write([intent(2, ts=days[2], attempt=2), end(2, ts=days[2], attempt=2)])
    journal.append(signal(), result(ts=days[2]))
    with Index(journal) as index:
        before = index.states(["id-1", "id-2", "id-3"])
        assert len(journal.prune(dt.date(2026, 3, 7))) == 2  # something is open in one of them
        index.catch_up()
        assert index.states(before) == before
        index.rebuild()
        assert index.states(before) == before
        journal.write([end(3, ts=days[3])])
        assert len(journal.prune(dt.date(2026, 3, 7))) == 1
        index.catch_up()
        before = index.states(before)
        assert {state.status for state in before.values()} == {ActionStatus.DONE}
        assert {state.attempt for state in before.values()} == {1, 2}
    (base / ".index.sqlite3").unlink()
    with Index(journal) as index:
        assert index.states(before) == before
        index.catch_up()
        assert index.states(before) == before
    assert not any(check.breaks for check in journal.verify())
    assert not any("issue_title" in path.read_text() for path in base.rglob("*.states"))


def test_a_day_that_is_written_to_after_pruning_goes_on_with_its_story(journal: Journal) -> None:
    journal.write([intent(1), end(1, success=False), intent(2), end(2)])
    assert journal.prune(dt.date(2026, 3, 7)) == [FILE]
    journal.write([intent(1, attempt=2), end(1, attempt=2)])
    for _ in range(2):  # the second time, all of it is pruned
        with Index(journal) as index:
            index.rebuild()
            found = index.states(["id-1", "id-2"])
        assert {state.status for state in found.values()} == {ActionStatus.DONE}
        assert [found[name].attempt for name in ("id-1", "id-2")] == [2, 1]
        journal.prune(dt.date(2026, 3, 7))
    assert journal.files() == []


def test_what_reaches_an_earlier_day_late_does_not_undo_a_later_one(journal: Journal) -> None:
    """As what another host has written does."""
    later = NOON + dt.timedelta(days=1)
    journal.write([intent(1, ts=later, attempt=2)])
    with Index(journal) as index:
        journal.write([intent(1), end(1, success=False)])
        index.catch_up()
        (state,) = index.pending()
        assert (state.id, state.attempt) == ("id-1", 2)
        before = index.states(["id-1"])
        index.rebuild()
        assert index.states(before) == before


def test_the_mode_follows_the_umask(base: Path, journal: Journal) -> None:
    old = os.umask(0o077)
    try:
        journal.append(signal(), result())
    finally:
        os.umask(old)
    assert stat.S_IMODE((base / FILE).stat().st_mode) == 0o600


def test_a_forked_child_goes_on_with_the_journal(base: Path, journal: Journal) -> None:
    subprocess.run([sys.executable, FORKER, base], check=True, timeout=60)
    (check,) = journal.verify()
    assert (check.entries, check.breaks) == (101, [])


def test_a_link_that_leads_out_is_reported_and_skipped(
    base: Path, journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal.write([intent(1), end(1)])
    outside = tmp_path / "outside"
    outside.mkdir()
    (base / "zz").mkdir()
    (base / "zz/etc").symlink_to(outside)
    (base / "zy").symlink_to("/etc")
    (base / "acme/widgets/2026-03-05.jsonl").symlink_to(outside / "file")
    (base / "acme/circle").symlink_to("circle")
    assert journal.files() == [FILE]
    assert len(journal.verify()) == 1
    with Index(journal) as index:
        index.rebuild()
        assert index.states(["id-1"])["id-1"].status is ActionStatus.DONE
    for name in ("zz/etc", "zy", "acme/widgets/2026-03-05.jsonl", "acme/circle"):
        assert f"{name} is skipped: " in caplog.text

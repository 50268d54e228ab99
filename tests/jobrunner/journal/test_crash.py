"""A crash at any moment loses no record that was acknowledged, and spoils none that comes after."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core_infra.jobrunner import ActionStatus, Index, Journal, Phase, RecordedSource
from core_infra.jobrunner._journal.hash_chain import check_chain, first_digest
from core_infra.medium._errors import StorageError
from jobs.actors import Teller
from jobs.samples import FILE, end, intent, result, signal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobs.polling import Make

WRITER = Path(__file__).parents[1] / "programs" / "journal_writer.py"
PAGE = 512


def torn(old: bytes, new: bytes) -> Iterator[bytes]:
    """What may be on the disk if *new* was being appended to *old*: the kernel writes blocks in
    any order, the file may have its new size already, and what was not written is zeros.
    """
    yield old
    yield old + new
    for cut in range(1, len(new), 13):
        yield old + new[:cut]
        yield old + new[:cut] + bytes(len(new) - cut)
        block = (len(old) + cut) // PAGE * PAGE
        hole = range(max(block, len(old)) - len(old), min(block + PAGE - len(old), len(new)))
        yield old + new[: hole.start] + bytes(len(hole)) + new[hole.stop :]


def test_every_crash_in_a_write_leaves_what_was_acknowledged(base: Path) -> None:
    with Journal(base) as journal:
        journal.write([intent(1), end(1), intent(2)])
        old = (base / FILE).read_bytes()
        journal.write([end(2), intent(3), end(3)])
        new = (base / FILE).read_bytes()[len(old) :]
    states = set(torn(old, new))
    assert len(states) > 200
    for state in states:
        (base / FILE).write_bytes(state)
        with Journal(base) as journal:
            journal.write([end(4)])
            (check,) = journal.verify()
            assert not check.breaks
            ids = [entry.id for entry in journal.entries()]
            assert ids[:3] == ["id-1", "id-1", "id-2"]
            assert ids[3:-1] == ["id-2", "id-3", "id-3"][: len(ids) - 4]
            assert ids[-1] == "id-4"


def test_a_crash_in_the_repair_is_repaired(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(base) as journal:
        journal.write([end(1), end(2)])
    (base / FILE).write_bytes((base / FILE).read_bytes()[:-5])
    with Journal(base) as journal, monkeypatch.context() as patch:

        def crash(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("os.ftruncate", crash)
        with pytest.raises(KeyboardInterrupt):
            journal.write([end(3)])
    with Journal(base) as journal:
        journal.write([end(4)])
        assert [entry.id for entry in journal.entries()] == ["id-1", "id-4"]
    assert len(list((base / FILE).parent.glob("*.torn-*"))) == 1


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_history_of_writes_and_crashes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    base = tmp_path_factory.mktemp("journal")
    acknowledged: list[str] = []
    number = 0
    for _ in range(data.draw(st.integers(1, 5), label="lives")):
        with Journal(base) as journal:
            for size in data.draw(st.lists(st.integers(1, 4), max_size=3), label="writes"):
                batch = [f"{number + one}" for one in range(size)]
                number += size
                journal.write([end(int(name)) for name in batch])
                acknowledged += batch
            old = (base / FILE).read_bytes() if (base / FILE).exists() else b""
            old = old[: check_chain(old, first_digest(FILE)).end]  # the next write removes the rest
            if not data.draw(st.booleans(), label="crash"):
                continue
            journal.write([end(number), end(number + 1)])
            number += 2
            new = (base / FILE).read_bytes()[len(old) :]
        with Index(Journal(base)):
            pass  # it may have seen what is lost now
        (base / FILE).write_bytes(data.draw(st.sampled_from(list(torn(old, new))), label="left"))
    with Journal(base) as journal, Index(journal) as index:
        journal.append(signal(), result())
        ids = [entry.id.removeprefix("id-") for entry in journal.entries()][:-1]
        assert [name for name in ids if name in acknowledged] == acknowledged
        assert ids == sorted(ids, key=int)
        assert not journal.verify()[0].breaks
        index.catch_up()


def test_eight_processes_append_to_one_journal(base: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, WRITER, base, str(number), "150"], stdout=subprocess.PIPE, text=True
        )
        for number in range(8)
    ]
    acknowledged: set[str] = set()
    for number, writer in enumerate(writers):
        assert writer.stdout is not None
        if number < 3:  # these die in the middle of it
            acknowledged |= {writer.stdout.readline().strip() for _ in range(40)}
            writer.kill()
        acknowledged |= {line.strip() for line in writer.stdout if line.endswith("\n")}
        writer.stdout.close()
        writer.wait(60)
    with Journal(base) as journal:
        journal.append(signal(), result())  # repairs what the last of the killed has left
        ids = [entry.id for entry in journal.entries()]
        assert acknowledged <= set(ids)
        assert len(acknowledged) >= 5 * 150 + 3 * 40
        assert len(ids) == len(set(ids))
        (check,) = journal.verify()
        assert not check.breaks
        assert check.entries == len(ids)


def test_the_index_has_the_state_of_each_action(journal: Journal) -> None:
    with Index(journal) as index:
        entries = [intent(number) for number in range(1, 7)]
        index.apply(entries, journal.write(entries))
        assert [state.id for state in index.pending()] == [f"id-{n}" for n in range(1, 7)]
        assert index.pending()[0].signal == signal().to_dict()
        entries = [
            end(2),
            end(3, success=False),
            end(4, success=False, phase=Phase.UNKNOWN),
            end(5, phase=Phase.WITHDRAWN),
            intent(6, attempt=2),
            end(6, phase=Phase.WITHDRAWN, attempt=2),
        ]
        index.apply(entries, journal.write(entries))
        live = index.states(f"id-{n}" for n in range(9))
        assert {name: state.status for name, state in live.items()} == {
            "id-1": ActionStatus.PENDING,
            "id-2": ActionStatus.DONE,
            "id-3": ActionStatus.FAILED,
            "id-4": ActionStatus.UNKNOWN,
            "id-6": ActionStatus.INTERRUPTED,
        }
        index.rebuild()
        assert index.states(f"id-{n}" for n in range(9)) == live


def test_the_index_takes_over_what_others_wrote(base: Path, journal: Journal) -> None:
    with Index(journal) as index, Journal(base) as other:
        other.write([intent(1)])
        entries = [intent(2)]
        index.apply(entries, journal.write(entries))  # after a gap
        other.write([end(1)])
        index.catch_up()
        states = index.states(["id-1", "id-2"])
        assert [state.status for state in states.values()] == [
            ActionStatus.DONE,
            ActionStatus.PENDING,
        ]


def test_a_damaged_index_is_made_anew(base: Path, journal: Journal) -> None:
    with Index(journal):
        journal.write([intent(1), end(1), intent(2)])
    path = base / ".index.sqlite3"
    for damage in (b"no database", path.read_bytes()[:4096] + b"x" * 9000):
        path.write_bytes(damage)
        for extra in base.glob(".index.sqlite3-*"):
            extra.unlink()
        with Index(journal) as index:
            assert index.states(["id-1"])["id-1"].status is ActionStatus.DONE
            assert [state.id for state in index.pending()] == ["id-2"]


def test_an_index_that_has_seen_lost_lines_reads_again(base: Path) -> None:
    with Journal(base) as journal:
        journal.write([end(1)])
        kept = (base / FILE).read_bytes()
        journal.write([intent(2), end(2)])
        with Index(journal):
            pass
    (base / FILE).write_bytes(kept)  # the power failed before they were on the disk
    with Journal(base) as journal:
        journal.write([intent(3), end(3)])  # exactly as long
        with Index(journal) as index:
            assert index.states(["id-3"])["id-3"].status is ActionStatus.DONE


def test_an_error_that_only_a_person_can_fix_rebuilds_nothing(
    base: Path, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    journal.write([intent(1)])
    (base / ".index.sqlite3").mkdir()  # as where it may not be written: it cannot be opened
    with pytest.raises(StorageError, match="unable to open database file") as caught:
        Index(journal)
    assert "Let this user write to it" in caught.value.todo
    assert "rebuilt" not in caplog.text
    (base / ".index.sqlite3").rmdir()
    with Index(journal) as index:
        for _ in range(2):
            entries = [intent(number) for number in range(2, 900)]
            with full_disk(), pytest.raises(StorageError, match="disk"):
                index.apply(entries, {})
        assert [state.id for state in index.pending()] == ["id-1"]
        index.catch_up()
    with Index(journal) as index, full_disk():
        with pytest.raises(StorageError, match=r"cannot use the index '.*index.sqlite3'"):
            index.rebuild()
        with pytest.raises(StorageError):
            Index(journal)
    with Index(journal) as index:
        assert [state.id for state in index.pending()] == ["id-1"]


def test_what_could_not_be_read_before_a_cycle_is_read_before_the_next(
    make: Make, journal: Journal
) -> None:
    poller = make(Teller("enable_auto_merge"), sources=[RecordedSource()])
    journal.write([intent(1)])  # by another poller, which was killed then
    for _ in range(2):
        with full_disk(), pytest.raises(StorageError):
            poller.run_once()
    poller.run_once()
    assert {entry.phase for entry in journal.entries()} == {Phase.INTENT, Phase.INTERRUPTED}


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow: SQLite meets the same as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

"""Snapshots on disk: built once, found again, rebuilt when damaged, removed when there are many."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._cache import report_news
from core_infra.vm._snapshots.snapshot import (
    CONSOLE,
    MEMORY,
    RECORD,
    STATE,
    Snapshot,
    read_snapshot,
    verify,
)
from core_infra.vm._snapshots.store import SnapshotStore


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are started here find this module: they take our path."""
    monkeypatch.syspath_prepend(Path(__file__).parents[3])


def build(work: Path) -> Snapshot:
    with (work / MEMORY).open("wb") as memory:
        memory.truncate(8 << 20)
        memory.seek((3 << 20) + 20480)
        memory.write(b"something" * 1000)
    (work / STATE).write_bytes(b"state")
    (work / CONSOLE).write_bytes(b"login: ")
    with (work.parent / "builds").open("a") as builds:
        builds.write(f"{os.getpid()}\n")
    return Snapshot(work, "", "ab" * 16, 4.2, {"image": "x"})


def build_count(root: Path) -> int:
    return len((root / "builds").read_text().split())


def test_it_is_built_once_and_found_by_the_next(tmp_path: Path) -> None:
    first = SnapshotStore(tmp_path).get("k", build)
    again = SnapshotStore(tmp_path).get("k", build)
    assert build_count(tmp_path) == 1
    assert (again.key, again.nonce, again.boot_seconds) == ("k", "ab" * 16, 4.2)
    assert first == again
    assert again.past() == b"login: "
    assert again.memory == tmp_path / "k" / MEMORY


def ask(root: str) -> str:
    return str(SnapshotStore(Path(root)).get("k", build).state.read_bytes())


def test_many_processes_that_ask_at_once_build_it_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert pool.map(ask, [str(tmp_path)] * 12) == [str(b"state")] * 12
    assert build_count(tmp_path) == 1


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("name", [MEMORY, STATE, CONSOLE, RECORD])
@pytest.mark.parametrize("how", ["flip", "cut", "remove", "grow"])
def test_a_damaged_one_is_built_again(tmp_path: Path, name: str, how: str) -> None:
    told: list[str] = []
    store = SnapshotStore(tmp_path, progress=told.append)
    path = store.get("k", build).directory / name
    if how == "flip":
        flip(path)
    elif how == "cut":
        os.truncate(path, path.stat().st_size // 2)
    elif how == "grow":
        with path.open("ab") as file:
            file.write(b"}x")
    else:
        path.unlink()
    whole = store.get("k", build)
    assert build_count(tmp_path) == 2
    verify(whole)
    if (name, how) != (RECORD, "remove"):  # then it looks as if it had never been there
        assert "building it again" in told[-1]


def test_a_file_that_was_replaced_after_it_was_checked_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core_infra.vm._snapshots.snapshot._CLOCK_TICK_NS", -(10**12))
    store = SnapshotStore(tmp_path)
    state = store.get("k", build).state
    store.get("k", build)  # reads all files, and need not read them again
    (tmp_path / "other").write_bytes(b"stale")
    (tmp_path / "other").rename(state)
    assert store.get("k", build).state.read_bytes() == b"state"
    assert build_count(tmp_path) == 2


def test_where_the_holes_are_does_not_matter(tmp_path: Path) -> None:
    snapshot = SnapshotStore(tmp_path).get("k", build)
    memory = snapshot.directory / MEMORY
    memory.write_bytes(memory.read_bytes())  # a copy without holes
    verify(snapshot)


def use_read_only(root: str) -> None:
    store = SnapshotStore(Path(root))
    copy = store.get("k", build)
    assert store.get("k", build) == copy, "it is copied once"
    assert copy.memory is not None
    assert not copy.memory.is_relative_to(root)
    with copy.memory.open("r+b") as memory:
        assert os.lseek(memory.fileno(), 0, os.SEEK_DATA) > 0, "its holes stay holes"
    verify(copy)
    said: list[str] = []
    report_news(said.append)
    assert len(said) == 1
    assert root in said[0]


def test_one_that_cannot_be_opened_to_write_has_a_copy(tmp_path: Path) -> None:
    SnapshotStore(tmp_path).get("k", build)
    script = f"""
        mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 77
        exec '{sys.executable}' -c 'import sys, {__name__} as t; t.use_read_only(sys.argv[1])' "$1"
    """
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode in (1, 77) and "Traceback" not in done.stderr:
        pytest.skip(f"mounting needs root, or user namespaces: {done.stderr}")
    assert done.returncode == 0, done.stderr
    assert build_count(tmp_path) == 1


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(work: Path) -> Snapshot:
        build(work)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        SnapshotStore(tmp_path).get("k", fail)
    with pytest.raises(NotFoundError):
        read_snapshot(tmp_path / "k")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["builds", "k.lock"]


def die(root: str) -> None:
    def killed(work: Path) -> Snapshot:
        build(work)
        os.kill(os.getpid(), 9)
        raise AssertionError

    SnapshotStore(Path(root)).get("k", killed)


def test_a_killed_builder_is_cleaned_up_after(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=die, args=(str(tmp_path),))
    process.start()
    process.join()
    assert process.exitcode == -9
    assert list(tmp_path.glob(".building-*"))
    verify(SnapshotStore(tmp_path).get("k", build))
    assert not list(tmp_path.glob(".building-*"))


def test_those_unused_for_longest_go_first(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    for age, key in enumerate("abc"):
        record = store.get(key, build).directory / RECORD
        os.utime(record, (1000 - age, 1000 - age))
    store.get("c", build)  # used again
    size = read_snapshot(tmp_path / "a").size
    assert [one.key for one in store.prune(2 * size)] == ["b"]
    assert [one.key for one in store.all()] == ["c", "a"]
    assert [one.key for one in store.prune(0)] == ["c", "a"]
    assert store.all() == []


def test_the_limit_holds_when_another_one_is_built(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, limit=1)
    store.get("a", build)
    store.get("b", build)
    assert [one.key for one in store.all()] == ["b"], "and never the one that was asked for"


def ask_often(root: str, key: str) -> list[str]:
    """Ask 60 times where there is room for no other snapshot; what was reported."""
    reported: list[str] = []
    store = SnapshotStore(Path(root), limit=1, progress=reported.append)
    for _ in range(60):
        store.get(key, build)
    return reported


def test_runs_that_remove_the_snapshots_of_each_other_do_not_notice(tmp_path: Path) -> None:
    keys = [(str(tmp_path), key) for key in "aabbcc"]
    with multiprocessing.get_context("spawn").Pool(len(keys)) as pool:
        reported = [line for lines in pool.starmap(ask_often, keys) for line in lines]
    assert not [line for line in reported if "damaged" in line]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 99}', "null"])
def test_a_record_that_is_none_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(InvalidError):
        read_snapshot(tmp_path)

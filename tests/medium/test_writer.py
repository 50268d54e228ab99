"""Files that are written piece by piece: unfinished, killed, forked, abandoned, several at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from core_infra.errors import WrongStateError
from core_infra.medium import (
    LocalMedium,
    PathIsDirectoryError,
    PathNotFoundError,
)
from core_infra.medium._paths import RESERVED

WRITER = Path(__file__).parent / "programs/crashing_writer.py"


@pytest.fixture
def local(tmp_path: Path) -> LocalMedium:
    return LocalMedium(tmp_path)


def start_writer(directory: Path, name: str, how: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, WRITER, directory, name, how])


def unfinished(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.name.startswith(RESERVED)]


def die_in_the_middle(directory: Path, name: str) -> None:
    assert start_writer(directory, name, "middle").wait(60) == -signal.SIGKILL
    assert len(unfinished(directory)) == 1


def test_a_fork_does_not_append_a_second_time(local: LocalMedium) -> None:
    with local.append("log") as log:
        log.write(b"first ")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for use in (log.flush, lambda: log.write(b"child ")):
                    with pytest.raises(WrongStateError, match="forked"):
                        use()
                log.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        log.write(b"second")
    assert local.read_text("log") == "first second"


def test_a_fork_that_leaves_the_block_of_a_writer_leaves_the_file_to_its_writer(
    tmp_path: Path, local: LocalMedium
) -> None:
    local.write_text("f", "old")
    ends = {}
    for how in ("by its end", "by an exception", "without closing it"):
        with local.create("f") as writer:
            writer.write(b"first ")
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    if how == "by its end":
                        writer.close()
                    elif how == "by an exception":
                        writer.__exit__(SystemExit, SystemExit(), None)
                        code = 0
                    else:
                        writer.__del__()
                        code = 0
                except WrongStateError:
                    code = 3
                finally:
                    os._exit(code)
            ends[how] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert local.read_text("f") != "first "
            assert len(unfinished(tmp_path)) == 1
            writer.write(how.encode())
        assert local.read_text("f") == f"first {how}"
    assert ends == {"by its end": 3, "by an exception": 0, "without closing it": 0}


def test_a_writer_killed_at_any_moment_leaves_a_whole_version(
    tmp_path: Path, local: LocalMedium
) -> None:
    for _ in range(8):
        writer = start_writer(tmp_path, "f", "loop")
        seen: set[bytes] = set()
        try:
            while len(seen) < 5:
                assert writer.poll() is None
                if local.exists("f"):
                    seen.add(whole_version(local.read_bytes("f")))
                assert local.list(".") in ([], ["f"])
        finally:
            writer.kill()
            writer.wait()
        whole_version(local.read_bytes("f"))
        assert local.list(".") == ["f"]
    local.write_bytes("f", b"last")
    assert unfinished(tmp_path) == []


def whole_version(data: bytes) -> bytes:
    assert data == data[:7] * 20_000
    return data[:7]


def test_a_half_written_file_is_invisible_and_goes_with_the_next_write(
    tmp_path: Path, local: LocalMedium
) -> None:
    local.write_text("f", "old", mode=0o604)
    die_in_the_middle(tmp_path, "f")
    assert local.read_text("f") == "old"
    assert local.list(".") == ["f"]
    local.write_text("other", "1")
    assert len(unfinished(tmp_path)) == 1
    local.write_text("f", "new")
    assert unfinished(tmp_path) == []
    assert (local.read_text("f"), local.stat("f").mode) == ("new", 0o604)


def test_a_directory_with_nothing_but_a_half_written_file_is_empty(
    tmp_path: Path, local: LocalMedium
) -> None:
    (tmp_path / "d").mkdir()
    die_in_the_middle(tmp_path / "d", "f")
    assert local.list("d") == []
    local.delete("d")
    assert not (tmp_path / "d").exists()


def test_a_living_writers_file_is_left_alone(tmp_path: Path, local: LocalMedium) -> None:
    with local.create("f") as slow:
        slow.write(b"slow")
        slow.flush()
        local.write_text("f", "quick")
        with pytest.raises(OSError, match="not empty"):
            LocalMedium(tmp_path.parent).delete(tmp_path.name)
        assert local.read_text("f") == "quick"
    assert local.read_text("f") == "slow"
    assert unfinished(tmp_path) == []


def test_an_abandoned_write_leaves_nothing(tmp_path: Path, local: LocalMedium) -> None:
    writer = local.create("f")
    writer.write(b"x" * 200_000)
    writer.abandon()
    assert list(tmp_path.iterdir()) == []


def test_a_write_whose_directory_goes_away_fails_clearly(local: LocalMedium) -> None:
    writer = local.create("d/f")
    local.delete_all("d")
    with pytest.raises(PathNotFoundError):
        writer.close()
    assert writer.closed


def test_a_write_onto_which_a_directory_was_put_fails_and_leaves_nothing(
    tmp_path: Path, local: LocalMedium
) -> None:
    writer = local.create("f")
    (tmp_path / "f").mkdir()
    with pytest.raises(PathIsDirectoryError):
        writer.close()
    assert unfinished(tmp_path) == []


def test_threads_that_write_one_file_never_mix(tmp_path: Path, local: LocalMedium) -> None:
    failures: list[BaseException] = []

    def write(letter: bytes) -> None:
        try:
            for _ in range(25):
                local.write_bytes("f", letter * 100_000)
                assert len(set(local.read_bytes("f"))) == 1
        except BaseException as error:  # noqa: BLE001 - reported by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(local.read_bytes("f")) == 100_000
    assert unfinished(tmp_path) == []

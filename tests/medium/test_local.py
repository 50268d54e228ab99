"""What only the real file system has: links, crashes, other writers, permissions."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from core_infra.medium import (
    AccessDeniedError,
    FakeMedium,
    InvalidPathError,
    LocalMedium,
    Medium,
    MemoryMedium,
    PathNotFoundError,
    SandboxMedium,
    StorageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable


WRITER = Path(__file__).parent / "programs/crashing_writer.py"


@pytest.fixture
def local(tmp_path: Path) -> LocalMedium:
    return LocalMedium(tmp_path)


def test_without_a_root_paths_are_the_real_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    medium = LocalMedium()
    medium.write_text("d/f", "1")
    assert (tmp_path / "d/f").read_text() == "1"
    assert medium.read_text(str(tmp_path / "d/f")) == "1"


def test_a_root_does_not_confine_and_survives_chdir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    medium = LocalMedium("root")
    monkeypatch.chdir("/")
    medium.write_text("f", "1")
    medium.write_text("../beside", "2")
    medium.write_text(f"{tmp_path}/absolute", "3")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["absolute", "beside", "root"]


def test_an_error_names_the_real_path(tmp_path: Path, local: LocalMedium) -> None:
    with pytest.raises(PathNotFoundError) as caught:
        local.read_text("d/f")
    assert caught.value.path == "d/f"
    assert caught.value.filename == f"{tmp_path}/d/f"
    assert str(caught.value) == (
        f"cannot read '{tmp_path}/d/f': there is no such file or directory"
    )


def test_a_write_through_a_link_replaces_the_target(tmp_path: Path, local: LocalMedium) -> None:
    local.write_text("real/target", "old", mode=0o600)
    (tmp_path / "link").symlink_to("second")
    (tmp_path / "second").symlink_to("real/target")
    local.write_text("link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "second").is_symlink()
    assert local.read_text("real/target") == "new"
    assert local.stat("real/target").mode == 0o600


def test_a_write_through_a_dangling_link_makes_its_target(
    tmp_path: Path, local: LocalMedium
) -> None:
    (tmp_path / "link").symlink_to("not/yet")
    assert not local.exists("link")
    assert local.list(".") == ["link"]
    local.write_text("link", "new")
    assert local.read_text("not/yet") == "new"


def test_links_in_a_circle_are_an_invalid_path(tmp_path: Path, local: LocalMedium) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for operation in (local.read_text, local.list, local.stat, local.create):
        with pytest.raises(InvalidPathError, match="circle"):
            operation("a")


def test_deleting_a_link_leaves_what_it_points_to(tmp_path: Path, local: LocalMedium) -> None:
    local.write_text("kept/f", "1")
    for delete in (local.delete, local.delete_all):
        (tmp_path / "link").symlink_to("kept")
        delete("link")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/link").symlink_to("../kept")
    local.delete_all("d")
    assert local.list(".") == ["kept"]
    assert local.read_text("kept/f") == "1"


def test_a_device_is_not_replaced_by_a_file(tmp_path: Path, local: LocalMedium) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidPathError, match="device, a pipe"):
        local.write_text("pipe", "x")
    assert (tmp_path / "pipe").is_fifo()
    with local.append("/dev/null") as writer:
        writer.write(b"x")


def test_a_deleted_working_directory_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(PathNotFoundError, match="working directory") as caught:
        LocalMedium().read_text("f")
    assert caught.value.path == "f"
    assert LocalMedium().is_dir(str(tmp_path))


def test_several_may_delete_the_same_tree(local: LocalMedium) -> None:
    failures: list[BaseException] = []

    def delete(begin: threading.Barrier) -> None:
        try:
            begin.wait(30)
            local.delete_all("tree")
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            failures.append(error)

    for _ in range(20):
        for number in range(20):
            local.ensure_dir(f"tree/{number % 5}/{number}")
        begin = threading.Barrier(4)
        threads = [threading.Thread(target=delete, args=(begin,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert not local.exists("tree")


@pytest.mark.parametrize("kind", ["local", "sandbox", "memory", "fake"])
def test_writers_and_those_who_delete_do_not_hinder_each_other(tmp_path: Path, kind: str) -> None:
    kinds: dict[str, Callable[[], Medium]] = {
        "local": lambda: LocalMedium(tmp_path),
        "sandbox": lambda: SandboxMedium(tmp_path),
        "memory": MemoryMedium,
        "fake": FakeMedium,
    }
    medium = kinds[kind]()
    failures: list[BaseException] = []
    written = threading.Event()

    def write(number: int) -> None:
        try:
            for _ in range(10):
                medium.write_text("tree/a/b/f", "x")
                with medium.append("tree/a/c/log") as log:
                    log.write(b"x")
                medium.ensure_dir(f"tree/a/{number}/d")
                medium.write_text(f"from{number}", "x")
                medium.rename(f"from{number}", f"tree/a/{number}/to")
        except BaseException as error:  # noqa: BLE001 - raised by the test's own thread
            failures.append(error)

    def delete() -> None:
        try:
            while not written.is_set():
                medium.delete_all("tree")
        except BaseException as error:  # noqa: BLE001 - the same
            failures.append(error)

    deleting = threading.Thread(target=delete)
    writing = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in (deleting, *writing):
        thread.start()
    for thread in writing:
        thread.join()
    written.set()
    deleting.join()
    assert not failures
    medium.delete_all("tree")
    assert medium.list(".") == []


def test_a_full_device_is_a_storage_error(local: LocalMedium) -> None:
    writer = local.append("/dev/full")
    writer.write(b"x")
    with pytest.raises(StorageError, match="No space left") as caught:
        writer.close()
    assert isinstance(caught.value, OSError)
    assert (caught.value.errno, caught.value.path) == (28, "/dev/full")


def test_what_the_system_forbids_is_denied() -> None:
    # Nobody, not even root, makes files in /proc.
    with pytest.raises((AccessDeniedError, PathNotFoundError)):
        LocalMedium().write_text("/proc/core-infra", "x")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_replaced_file_keeps_its_owner(tmp_path: Path, local: LocalMedium) -> None:
    local.write_text("f", "old", mode=0o640)
    os.chown(tmp_path / "f", 1234, 1235)
    local.write_text("f", "new")
    found = (tmp_path / "f").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (1234, 1235, 0o640)


def test_the_umask_counts_for_new_files(local: LocalMedium) -> None:
    os.umask(0o077)
    local.write_text("d/f", "")
    assert (local.stat("d").mode, local.stat("d/f").mode) == (0o700, 0o600)


def test_a_name_of_the_longest_length_can_be_written(local: LocalMedium) -> None:
    local.write_text("n" * 255, "1")
    local.write_text("n" * 255, "2")
    assert local.read_text("n" * 255) == "2"

"""QEMU's own agent: the real one, on this host."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import (
    CommandFailedError,
    CoreInfraError,
    InvalidError,
    NotFoundError,
    TimeoutExpiredError,
)
from core_infra.vm._access.file_copy import pull, push
from core_infra.vm._access.interface import NoAccessError, run_to_end
from core_infra.vm._access.qga import QgaAccess
from core_infra.vm._cache import cache_root
from linuxkit_standin import unpack

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of an agent, in a system that has no program to send signals with."""
    directory = tmp_path_factory.mktemp("qga")
    program = shutil.which("qemu-ga")
    if program is None:
        try:
            unpack(("qemu-guest-agent",), cache_root(), directory / "root")
        except CoreInfraError as error:
            pytest.skip(f"needs Debian's qemu-guest-agent: {error}")
        program = str(directory / "root/usr/sbin/qemu-ga")
    programs = directory / "bin"
    programs.mkdir()
    for found in Path("/bin").iterdir():
        if "kill" not in found.name:
            (programs / found.name).symlink_to(found)
    path = directory / "qga.sock"
    complaints = directory / "stderr"  # not a pipe, which nobody would empty
    with complaints.open("wb") as stderr:
        process = subprocess.Popen(
            [program, "-m", "unix-listen", "-p", path, "-t", directory],
            env=os.environ | {"PATH": str(programs)},
            stderr=stderr,
        )
    while not path.is_socket():
        if process.poll() is not None:
            pytest.skip(f"qemu-ga does not run here: {complaints.read_text()}")
    yield path
    process.kill()
    process.wait()


@pytest.fixture
def access(agent: Path) -> Iterator[QgaAccess]:
    access = QgaAccess(agent, timeout=30)
    yield access
    access.close()


def test_commands(access: QgaAccess) -> None:
    with access.start(["/bin/sh", "-c", "cat; echo err >&2; exit 3"]) as process:
        process.send_input("some ")
        process.send_input(b"input")
        assert dict(process.chunks()) == {"stdout": b"some input", "stderr": b"err\n"}
        assert (process.exit_code, process.wait()) == (3, 3)


def test_a_signal_is_told_as_such(access: QgaAccess) -> None:
    with access.start(["/bin/sh", "-c", "kill -9 $$"]) as process:
        assert process.wait() == -9


def test_what_cannot_be_started(access: QgaAccess) -> None:
    with (
        pytest.raises(CommandFailedError, match="refuses guest-exec"),
        access.start(["/no/such/program"]) as process,
    ):
        process.close_stdin()


def test_a_broken_session_harms_no_later_one(agent: Path) -> None:
    with socket.socket(socket.AF_UNIX) as broken:
        broken.connect(str(agent))
        broken.sendall(b'{"execute": "guest-ping"}\n{"execute": "gu')
        assert broken.recv(100) == b'{"return": {}}\n'
    access = QgaAccess(agent, timeout=30)
    with access.start(["/bin/echo", "fine"]) as process:
        assert b"".join(data for _, data in process.chunks()) == b"fine\n"
    access.close()


def test_files_and_directories_are_copied(access: QgaAccess, tmp_path: Path) -> None:
    (tmp_path / "d/inner").mkdir(parents=True)
    (tmp_path / "d/inner/file").write_bytes(b"\0\xff" * 50_000)
    push(access, str(tmp_path / "d"), str(tmp_path / "there"))
    assert (tmp_path / "there/inner/file").read_bytes() == b"\0\xff" * 50_000
    push(access, str(tmp_path / "d/inner/file"), f"{tmp_path}/new/")
    pull(access, f"{tmp_path}/new/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == b"\0\xff" * 50_000
    pull(access, f"{tmp_path}/there", str(tmp_path / "tree"))
    assert (tmp_path / "tree/inner/file").exists()
    with pytest.raises(NotFoundError, match="No such file"):
        pull(access, f"{tmp_path}/nothing", str(tmp_path / "x"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "d", "new", "there", "tree"]


def test_a_file_goes_into_a_directory_that_is_there(access: QgaAccess, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("new")
    (tmp_path / "in").mkdir()
    push(access, str(tmp_path / "file"), f"{tmp_path}/in")
    assert (tmp_path / "in/file").read_text() == "new"
    (tmp_path / "taken/file").mkdir(parents=True)
    with pytest.raises(CommandFailedError, match="taken/file is a directory"):
        push(access, str(tmp_path / "file"), f"{tmp_path}/taken")
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert found == ["file", "in", "in/file", "taken", "taken/file"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_what_cannot_be_written_there_leaves_nothing(access: QgaAccess, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1 << 20))
    full = tmp_path / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", full], check=True)
    try:
        with pytest.raises(CommandFailedError, match="No space"):
            push(access, str(tmp_path / "file"), f"{full}/file")
        assert list(full.iterdir()) == []
    finally:
        subprocess.run(["umount", full], check=True)


@pytest.mark.parametrize("mode", [0o600, 0o755, 0o444])
def test_a_file_keeps_its_mode(access: QgaAccess, tmp_path: Path, mode: int) -> None:
    (tmp_path / "file").write_text("secret")
    (tmp_path / "file").chmod(mode)
    push(access, str(tmp_path / "file"), f"{tmp_path}/there")
    pull(access, f"{tmp_path}/there", str(tmp_path / "back"))
    for name in ("there", "back"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode


def test_what_has_no_end_and_what_has_no_place_is_refused(
    access: QgaAccess, tmp_path: Path
) -> None:
    with pytest.raises(InvalidError, match="it is a character special file"):
        pull(access, "/dev/zero", str(tmp_path / "x"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidError, match="cannot copy"):
        pull(access, f"{tmp_path}/file", f"{tmp_path}/file/x")


def test_a_command_that_takes_too_long_is_ended(access: QgaAccess) -> None:
    with pytest.raises(TimeoutExpiredError, match=r"did not end within 0.5 s"):
        run_to_end(access, ["sh", "-c", "echo before; exec sleep 600"], timeout=0.5)
    assert run_to_end(access, ["echo", "fine"], timeout=30).stdout == "fine\n"


def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen(1)
        with pytest.raises(NoAccessError, match=r"does not answer within 0\.1 s"):
            QgaAccess(tmp_path / "s", timeout=0.1)

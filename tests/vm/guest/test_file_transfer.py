"""Files and trees between host and guest."""

import hashlib
import io
import os
import socket
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from core_infra.errors import CoreInfraError, InvalidError, NotFoundError, TimeoutExpiredError
from core_infra.medium import LocalMedium
from core_infra.vm import GuestOperationError, Machine
from core_infra.vm._guest.atomic_write import atomic_tree
from core_infra.vm._guest.tree_transfer import UnsafeTreeError, receive_tree, send_tree

if TYPE_CHECKING:
    from core_infra.vm._guest.process import GuestProcess


def tree_of(root: Path) -> dict[str, tuple[str, str]]:
    """Every path below root with its kind and content or link target."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        mode = oct(stat.S_IMODE(path.lstat().st_mode))
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        elif path.is_dir():
            found[name] = ("dir", mode)
        else:
            found[name] = (mode, hashlib.sha256(path.read_bytes()).hexdigest())
    return found


def test_text_round_trip_makes_parents(machine: Machine) -> None:
    machine.write_text("/root/new/deep/file.txt", "häll\no")
    assert machine.read_text("/root/new/deep/file.txt") == "häll\no"
    assert machine.exec("cat /root/new/deep/file.txt").stdout == "häll\no"


def test_empty_and_binary_files(machine: Machine) -> None:
    machine.write_bytes("/tmp/empty", b"")
    assert machine.read_bytes("/tmp/empty") == b""
    data = hashlib.shake_256(b"x").digest(3 << 20)
    machine.write_bytes("/tmp/big", data)
    assert machine.read_bytes("/tmp/big") == data


def test_rewriting_keeps_the_mode_and_writes_through_links(machine: Machine) -> None:
    machine.exec("echo old > /tmp/real; chmod 640 /tmp/real; ln -sf real /tmp/link", check=True)
    machine.write_text("/tmp/link", "new")
    assert machine.exec("cat /tmp/real; stat -c %a /tmp/real; readlink /tmp/link").stdout == (
        "new640\nreal\n"
    )


def test_proc_and_sys_are_readable(machine: Machine) -> None:
    assert "Linux" in machine.read_text("/proc/version")


@pytest.mark.parametrize("path", ["/no/such/file", "/etc", "/dev/null/x"])
def test_what_cannot_be_read_is_named(machine: Machine, path: str) -> None:
    with pytest.raises(GuestOperationError, match=path):
        machine.read_bytes(path)


def test_what_cannot_be_written_is_named(machine: Machine) -> None:
    with pytest.raises(GuestOperationError, match="/proc/version"):
        machine.write_text("/proc/version/no", "x")


def test_relative_paths_are_refused(machine: Machine, tmp_path: Path) -> None:
    for call in (
        lambda: machine.write_text("x", ""),
        lambda: machine.read_text("x"),
        lambda: machine.push(tmp_path, "x"),
        lambda: machine.pull("x", tmp_path),
    ):
        with pytest.raises(InvalidError, match="relative"):
            call()


def test_a_full_guest_is_told_and_leaves_the_old_file(machine: Machine) -> None:
    machine.exec(
        "mkdir -p /mnt/small && mount -t tmpfs -o size=256k none /mnt/small && "
        "echo old >/mnt/small/f",
        check=True,
    )
    with pytest.raises(GuestOperationError, match="/mnt/small/f"):
        machine.write_bytes("/mnt/small/f", bytes(1 << 20))
    assert machine.exec("cat /mnt/small/f; ls -A /mnt/small").stdout == "old\nf\n"


def test_push_and_pull_a_file_keep_the_mode(machine: Machine, tmp_path: Path) -> None:
    source = tmp_path / "tool"
    source.write_bytes(b"#!/bin/sh\necho it runs\n")
    source.chmod(0o750)
    machine.push(source, "/usr/local/bin/")
    assert machine.exec("tool").stdout == "it runs\n"
    machine.pull("/usr/local/bin/tool", tmp_path / "back" / "tool2")
    back = tmp_path / "back" / "tool2"
    assert back.read_bytes() == source.read_bytes()
    assert stat.S_IMODE(back.stat().st_mode) == 0o750
    machine.pull("/usr/local/bin/tool", tmp_path / "back")
    assert (tmp_path / "back" / "tool").exists()


def test_a_tree_there_and_back(machine: Machine, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "empty").mkdir(parents=True)
    (source / "sub dir").mkdir()
    (source / "sub dir" / "new\nline").write_text("x")
    (source / ("long" * 50)).mkdir()
    (source / ("long" * 50) / ("name" * 50)).write_bytes(os.urandom(100_000))
    (source / "ünï").write_text("y")
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    (source / "link").symlink_to("sub dir/new\nline")
    (source / "dangling").symlink_to("nowhere")
    machine.push(source, "/srv/tree")
    assert machine.exec("stat -c %U /srv/tree/run.sh").stdout == "root\n"
    machine.pull("/srv/tree", tmp_path / "back")
    assert tree_of(tmp_path / "back") == tree_of(source)


def test_links_that_lead_outside_stay_links(machine: Machine, tmp_path: Path) -> None:
    machine.exec(
        "mkdir -p /tmp/links && ln -sf /etc/passwd /tmp/links/a && ln -sf ../.. /tmp/links/b"
    )
    machine.pull("/tmp/links", tmp_path / "links")
    assert tree_of(tmp_path / "links") == {"a": ("link", "/etc/passwd"), "b": ("link", "../..")}


def hostile_archive(kind: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:

        def add(name: str, **facts: object) -> None:
            member = tarfile.TarInfo(name)
            member.size = 3 if not facts else 0
            for fact, value in facts.items():
                setattr(member, fact, value)
            archive.addfile(member, io.BytesIO(b"bad"))

        if kind == "dotdot":
            add("../outside")
        elif kind == "absolute":
            add("/tmp/core-infra-test-outside")
        elif kind == "through a link":
            add("x", type=tarfile.SYMTYPE, linkname="..")
            add("x/outside")
        elif kind == "hard link to outside":
            add("x", type=tarfile.LNKTYPE, linkname="../victim")
        elif kind == "hard link through a link":
            add("x", type=tarfile.SYMTYPE, linkname="..")
            add("y", type=tarfile.LNKTYPE, linkname="x/victim")
        elif kind == "device":
            add("x", type=tarfile.CHRTYPE, devmajor=1, devminor=1)
    return file.getvalue()


@pytest.mark.parametrize(
    "kind",
    [
        "dotdot",
        "absolute",
        "through a link",
        "hard link to outside",
        "hard link through a link",
        "device",
    ],
)
def test_a_hostile_guest_cannot_write_outside(machine: Machine, tmp_path: Path, kind: str) -> None:
    (tmp_path / "victim").write_text("unharmed")
    machine.write_bytes("/tmp/evil.tar", hostile_archive(kind))
    with machine.stream("cat /tmp/evil.tar") as process, pytest.raises(UnsafeTreeError):
        receive_tree(process, tmp_path / "target")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["target", "victim"]
    assert (tmp_path / "victim").read_text() == "unharmed"
    assert (tmp_path / "victim").stat().st_nlink == 1


def test_pulling_again_replaces_files_and_links(machine: Machine, tmp_path: Path) -> None:
    machine.exec("mkdir -p /tmp/twice && ln -sf /etc /tmp/twice/x", check=True)
    machine.pull("/tmp/twice", tmp_path / "twice")
    machine.exec("rm /tmp/twice/x && echo file > /tmp/twice/x", check=True)
    machine.pull("/tmp/twice", tmp_path / "twice")
    assert (tmp_path / "twice" / "x").read_text() == "file\n"
    assert not (tmp_path / "twice" / "x").is_symlink()


def test_missing_sources_are_named_and_leave_nothing(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="absent"):
        machine.push(tmp_path / "absent", "/tmp/x")
    with pytest.raises(GuestOperationError, match="/no/such"):
        machine.pull("/no/such", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_end_is_not_pulled(machine: Machine, tmp_path: Path) -> None:
    for source in ("/dev/zero", "/dev/console"):
        with pytest.raises(InvalidError, match=f"{source}(?s:.*)character special file"):
            machine.pull(source, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("path", ["/proc", "/sys/devices"])
def test_what_the_kernel_makes_up_is_not_pulled(
    machine: Machine, tmp_path: Path, path: str
) -> None:
    with pytest.raises(InvalidError, match="virtual file system"):
        machine.pull(path, tmp_path / "there")
    machine.pull("/proc/cpuinfo", tmp_path / "cpuinfo")
    assert "processor" in (tmp_path / "cpuinfo").read_text()


def test_copying_ends_in_time(machine: Machine, tmp_path: Path) -> None:
    machine.exec("mkdir -p /tmp/large && truncate -s 100G /tmp/large/file", check=True)
    for source in ("/tmp/large", "/tmp/large/file"):
        with pytest.raises(TimeoutExpiredError):
            machine.pull(source, tmp_path / "here", timeout=0.3)
    endless = tmp_path / "endless"
    with endless.open("wb") as file:
        file.truncate(100 << 30)
    with pytest.raises(TimeoutExpiredError):
        machine.push(endless, "/tmp/endless", timeout=0.3)
    assert machine.exec("ls /tmp/endless").exit_code != 0, "no part of it is there"
    machine.exec("rm -r /tmp/large", check=True)


@pytest.mark.parametrize(("source", "target"), [(5, "/x"), ("", "/x"), (__file__, 5)])
def test_what_is_no_path_is_told(machine: Machine, source: Any, target: Any) -> None:
    with pytest.raises(InvalidError, match="cannot use"):
        machine.push(source, target)


def test_a_tree_that_cannot_be_read_is_told(machine: Machine) -> None:
    with pytest.raises(CoreInfraError, match="cannot push"):
        machine.push("/proc/self", "/tmp/self")


class Echo:
    """Stands in for a guest, whose tar takes a minute for so deep a tree: returns its input."""

    def __init__(self) -> None:
        self._data: list[bytes] = []

    def is_running(self) -> bool:
        return True

    def send_input(self, data: bytes) -> None:
        self._data.append(data)

    def close_stdin(self) -> None:
        """It has ended."""

    def chunks(self) -> Iterator[tuple[str, bytes]]:
        return (("stdout", data) for data in self._data)


def test_a_tree_deeper_than_pythons_recursion_comes_and_goes(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    guest = cast("GuestProcess", Echo())

    def pull_and_fail() -> None:
        with atomic_tree(tmp_path / "back", "pull") as part:
            receive_tree(guest, part)
            assert (part / "/".join(["d"] * 1100) / "f").is_file()
            raise InvalidError("on purpose")

    try:
        send_tree(guest, tmp_path)
        with pytest.raises(InvalidError, match="on purpose"):
            pull_and_fail()
        assert [path.name for path in tmp_path.iterdir()] == ["d"]
    finally:
        LocalMedium(tmp_path).delete_all("d")  # shutil.rmtree is recursive


@pytest.mark.parametrize("error", [OSError("gone"), KeyboardInterrupt()])
def test_a_push_that_is_cut_off_leaves_nothing(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    (tmp_path / "a").write_bytes(b"a" * (1 << 20))
    (tmp_path / "b").write_text("b")

    def add(archive: tarfile.TarFile, path: str, **options: Any) -> None:
        if Path(path).name == "b":
            # The guest has begun to write: what arrives there is seen from here.
            machine.wait_until_succeeds("ls -d /tmp/.core-infra-copy-*/a")
            raise error
        real(archive, path, **options)

    real = tarfile.TarFile.add
    monkeypatch.setattr(tarfile.TarFile, "add", add)
    with pytest.raises((InvalidError, KeyboardInterrupt)):
        machine.push(tmp_path, "/tmp/cut")
    assert machine.exec("ls -A /tmp | grep -e cut -e core-infra-copy").stdout == ""


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_what_is_not_a_file_is_refused_in_both_directions(
    machine: Machine, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "first").write_text("1")
    if kind == "pipe":
        os.mkfifo(tmp_path / "sub/special")
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(tmp_path / "sub/special"))
    with pytest.raises(InvalidError, match=r"sub/special.*a device, a pipe or a socket"):
        machine.push(tmp_path, f"/tmp/{kind}")
    assert machine.exec(f"ls -A /tmp | grep -e {kind} -e core-infra-copy").stdout == ""
    machine.exec(
        "rm -rf /tmp/special; mkdir -p /tmp/special/sub; mkfifo /tmp/special/sub/one", check=True
    )
    with pytest.raises(InvalidError, match=r"sub/one.*a device, a pipe or a socket"):
        machine.pull("/tmp/special", tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()

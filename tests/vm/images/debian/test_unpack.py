"""Packages become a tree whose dpkg can configure them."""

import hashlib
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from core_infra.errors import CommandFailedError, InvalidError
from core_infra.vm._free_space import HostFullError
from core_infra.vm._images.debian.apt import Deb
from core_infra.vm._images.debian.unpack import unpack
from core_infra.vm._images.disk.ext4 import write_ext4
from core_infra.vm._images.disk.tree import Node

pytestmark = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="this host has no dpkg")


def make_deb(
    directory: Path, name: str, files: Mapping[str, str], control: str = "", **scripts: str
) -> Deb:
    tree = directory / f"{name}-tree"
    (tree / "DEBIAN").mkdir(parents=True)
    head = f"Package: {name}\nVersion: 1.0\nArchitecture: amd64\nMaintainer: x <x@localhost>\n"
    (tree / "DEBIAN" / "control").write_text(f"{head}{control}Description: {name}\n a test\n")
    for script, text in scripts.items():
        (tree / "DEBIAN" / script).write_text(text)
        (tree / "DEBIAN" / script).chmod(0o755)
    for path, text in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    deb = directory / f"{name}_1.0_amd64.deb"
    subprocess.run(
        ["dpkg-deb", "--build", "--root-owner-group", tree, deb], check=True, capture_output=True
    )
    return Deb(deb, name, "1.0", "")


def unpacked(directory: Path, *debs: Deb) -> Node:
    work = directory / "work"
    work.mkdir()
    return unpack(debs, "amd64", work, lambda _line: None)


def at(root: Node, path: str) -> Node:
    for part in path.split("/"):
        root = root.entries[part.encode()]
    return root


def text_of(node: Node) -> str:
    return b"".join(piece.data for piece in node.pieces).decode()


def test_dpkg_reads_the_database_and_finds_the_packages_unpacked(tmp_path: Path) -> None:
    one = make_deb(
        tmp_path,
        "one",
        {"usr/bin/one": "program", "etc/one.conf": "setting"},
        control="Multi-Arch: same\n",
        conffiles="/etc/one.conf\n",
        postinst="#!/bin/sh\n",
        triggers="interest-noawait /usr/share/fonts\ninterest one-rebuild\n",
    )
    two = make_deb(tmp_path, "two", {"usr/bin/two": "program"}, control="Depends: one\n")
    root = unpacked(tmp_path, one, two)
    database = tmp_path / "dpkg"
    disk = tmp_path / "disk.raw"
    write_ext4(disk, root, free=1 << 20)
    if not (debugfs := shutil.which("debugfs") or shutil.which("/usr/sbin/debugfs")):
        pytest.skip("debugfs is not installed")
    command = [debugfs, "-R", f"rdump /var/lib/dpkg {tmp_path}", str(disk)]
    subprocess.run(command, check=True, capture_output=True)

    def query(*arguments: str) -> str:
        full = ["dpkg-query", f"--admindir={database}", *arguments]
        return subprocess.run(full, check=True, capture_output=True, text=True).stdout

    digest = hashlib.md5(b"setting", usedforsecurity=False).hexdigest()
    form = "${binary:Package} ${db:Status-Status} ${Conffiles}\n"
    assert query("-W", f"-f={form}").splitlines() == [
        f"one:amd64 unpacked  /etc/one.conf {digest}",
        "two unpacked ",
    ]
    assert "/usr/bin/one" in query("-L", "one").splitlines()
    assert query("-S", "/usr/bin/two") == "two: /usr/bin/two\n"
    assert text_of(at(root, "var/lib/dpkg/triggers/File")) == "/usr/share/fonts one:amd64/noawait\n"
    assert text_of(at(root, "var/lib/dpkg/triggers/one-rebuild")) == "one:amd64\n"
    assert at(root, "var/lib/dpkg/info/one:amd64.postinst").mode & 0o777 == 0o755


def test_files_of_the_old_places_go_to_usr(tmp_path: Path) -> None:
    old = make_deb(tmp_path, "old", {"bin/old": "1", "lib/x86_64-linux-gnu/liba.so": "2"})
    root = unpacked(tmp_path, old)
    assert at(root, "bin").target == b"usr/bin"
    assert at(root, "usr/bin/old").size == 1
    assert at(root, "usr/lib/x86_64-linux-gnu/liba.so").size == 1


def test_two_packages_with_the_same_file_are_refused_unless_one_replaces_the_other(
    tmp_path: Path,
) -> None:
    first = make_deb(tmp_path, "first", {"usr/bin/it": "1"})
    second = make_deb(tmp_path, "second", {"bin/it": "2"})
    with pytest.raises(InvalidError, match=r"first and second cannot .*both have the file /bin/it"):
        unpacked(tmp_path, first, second)
    third = make_deb(tmp_path, "third", {"usr/bin/it": "333"}, "Replaces: x, first (<< 2)\n")
    (tmp_path / "again").mkdir()
    for order in ((first, third), (third, first)):
        shutil.rmtree(tmp_path / "again")
        (tmp_path / "again").mkdir()
        root = unpacked(tmp_path / "again", *order)
        assert at(root, "usr/bin/it").size == 3, "the one that replaces"


def test_a_damaged_package_is_named(tmp_path: Path) -> None:
    deb = make_deb(tmp_path, "app", {"usr/bin/app": "1"})
    deb.path.write_bytes(deb.path.read_bytes()[:100])
    with pytest.raises(CommandFailedError, match=r"cannot unpack the package app 1\.0"):
        unpacked(tmp_path, deb)


def test_equal_packages_make_equal_disks(tmp_path: Path) -> None:
    debs = [make_deb(tmp_path, name, {f"usr/bin/{name}": name * 100}) for name in ("a1", "b1")]
    for number in ("1", "2"):
        (tmp_path / number).mkdir()
        root = unpacked(tmp_path / number, *debs)
        write_ext4(tmp_path / f"{number}.raw", root, free=1 << 20)
    assert (tmp_path / "1.raw").read_bytes() == (tmp_path / "2.raw").read_bytes()


def test_a_full_disk_is_called_that_in_each_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deb = make_deb(tmp_path, "one", {"usr/bin/one": "program" * 50_000})
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    work = tmp_path / "work"
    work.mkdir()
    (work / f"{deb.path.stem}.tar").symlink_to("/dev/full")
    with pytest.raises(
        HostFullError, match=r"cannot write the package one to .*\n?Make room there"
    ):
        unpack([deb], "amd64", work, lambda _line: None)

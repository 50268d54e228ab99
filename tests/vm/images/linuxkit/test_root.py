"""Trees that are put over each other, and the archive that the kernel unpacks."""

from __future__ import annotations

import shutil
import stat
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_infra.errors import InvalidError
from core_infra.vm._images.disk.tree import Node, directory, text_file, walk
from core_infra.vm._images.linuxkit.archives import content, read_cpio, write_cpio, write_tar
from core_infra.vm._images.linuxkit.root import Root, prepare, symlink

if TYPE_CHECKING:
    from pathlib import Path


def tree(**entries: str | Node | dict[str, str]) -> Node:
    """Make a tree: a text that begins with ``->`` is a link."""
    root = Root()
    for name, value in entries.items():
        path = name.replace("__", "/")
        if isinstance(value, Node):
            root.add(path, value)
        elif isinstance(value, str) and value.startswith("->"):
            root.add(path, symlink(value[2:]))
        elif isinstance(value, str):
            root.add_text(path, value)
    return root.tree


def shown(node: Node) -> dict[str, str]:
    """The files and links of a tree."""
    found = {}
    for path, one in walk(node):
        name = path.decode().lstrip("/")
        if one.is_link:
            found[name] = f"->{one.target.decode()}"
        elif one.is_file:
            found[name] = b"".join(content(one)).decode()
    return found


def test_later_wins_and_directories_merge() -> None:
    root = Root()
    root.put(tree(a__x="1", a__y="1", b="1"))
    root.put(tree(a__x="2", b__z="2"))
    assert shown(root.tree) == {"a/x": "2", "a/y": "1", "b/z": "2"}


@pytest.mark.parametrize("first", ["directory", "link"])
def test_a_merged_usr_keeps_the_kernel_s_modules(first: str) -> None:
    modules = tree(lib__modules__k="ko", lib__same="kernel")
    merged = tree(lib="->usr/lib", usr__lib__libc="so", usr__lib__same="image")
    root = Root()
    for one in [modules, merged] if first == "directory" else [merged, modules]:
        root.put(one)
    same = "image" if first == "directory" else "kernel"  # the later one
    assert shown(root.tree) == {
        "lib": "->usr/lib",
        "usr/lib/libc": "so",
        "usr/lib/modules/k": "ko",
        "usr/lib/same": same,
    }


def test_links_lead_nowhere_but_inside() -> None:
    root = Root()
    root.put(tree(abs="->/deep/down", up="->../../../deep"))
    root.add_text("abs/f", "1")
    root.add_text("up/g", "2")
    assert shown(root.tree)["deep/down/f"] == "1"
    assert shown(root.tree)["deep/g"] == "2"
    root.put(tree(one="->two", two="->one"))
    with pytest.raises(InvalidError, match="circle"):
        root.add_text("one/x", "")


def test_an_image_is_not_changed_by_where_it_goes() -> None:
    image = tree(f="1", etc__hostname="docker", etc__hosts="own", dev__console="x")
    image.entries[b"g"] = image.entries[b"f"]  # a hard link
    before = shown(image)
    found = prepare(image)
    assert shown(image) == before
    assert found.entries[b"g"] is found.entries[b"f"]
    assert found.entries[b"f"] is not image.entries[b"f"]
    files = shown(found)
    assert "etc/hostname" not in files
    assert "dev/console" not in files
    assert files["etc/mtab"] == "->/proc/mounts"
    assert files["etc/hosts"].startswith("127.0.0.1 ")
    assert files["etc/resolv.conf"] == "\n# no resolv.conf configured\n"
    assert shown(prepare(image, "/run/r"))["etc/resolv.conf"] == "->/run/r"


def written(node: Node, path: Path) -> Path:
    with path.open("wb") as file:
        write_cpio(node, file.write)
    return path


def sample() -> Node:
    root = tree(a__x="1" * 5000, a__empty="", z="->a/x")
    root.entries[b"hard"] = root.entries[b"a"].entries[b"x"]
    root.entries[b"dev"] = Node(stat.S_IFCHR | 0o600, 1, 2, device=(5, 1))
    root.entries[b"\xff"] = directory(0o1777)
    return root


def test_an_archive_is_read_back(tmp_path: Path) -> None:
    found = read_cpio(written(sample(), tmp_path / "a"))
    nodes = {path: (one.mode, one.uid, one.gid, one.device) for path, one in walk(found)}
    assert nodes == {p: (n.mode, n.uid, n.gid, n.device) for p, n in walk(sample())}
    assert written(sample(), tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_cpio_unpacks_it(tmp_path: Path) -> None:
    made = sample()
    del made.entries[b"dev"]  # only root can make it
    archive = written(made, tmp_path / "a")
    target = tmp_path / "unpacked"
    target.mkdir()
    with archive.open("rb") as file:
        subprocess.run(["cpio", "-idm", "--quiet"], cwd=target, stdin=file, check=True)
    assert (target / "a" / "x").read_text() == "1" * 5000
    assert (target / "hard").stat().st_ino == (target / "a" / "x").stat().st_ino
    assert (target / "z").readlink().name == "x"


def test_tar_lists_it(tmp_path: Path) -> None:
    made = sample()
    made.entries[b"a"].entries[b"x"].xattrs = {b"security.capability": b"\x01\xff"}
    with (tmp_path / "t").open("wb") as file:
        write_tar(made, file)
    with tarfile.open(tmp_path / "t") as archive:
        found = {entry.name: entry for entry in archive}
    assert (tmp_path / "t").stat().st_size % 10240 == 0
    assert found["hard"].linkname == "a/x"
    assert found["a/x"].size == 5000
    assert "SCHILY.xattr.security.capability" in found["a/x"].pax_headers
    assert (found["dev"].devmajor, found["dev"].uid) == (5, 1)


def test_what_an_initrd_cannot_hold() -> None:
    said: list[str] = []
    able = text_file("")
    able.xattrs = {b"security.capability": b"1"}
    root = directory()
    root.entries = {b"a": able, b"b": able}
    write_cpio(root, bytes, warn=said.append)
    assert said == ["an initrd cannot hold file capabilities; those of 1 file are left out"]
    root.entries = {b"big": Node(stat.S_IFREG, size=1 << 32)}
    with pytest.raises(InvalidError, match="/big: it is larger than 4 GiB"):
        write_cpio(root, bytes)
    root.entries = {b"TRAILER!!!": text_file("")}
    with pytest.raises(InvalidError, match="ends the archive"):
        write_cpio(root, bytes)


NAMES = st.sampled_from([b"a", b"b", b"lib"])


@st.composite
def trees(draw: st.DrawFn, depth: int = 3) -> Node:
    """A tree without links, which are tested above."""
    node = directory()
    for name in draw(st.sets(NAMES)):
        if depth and draw(st.booleans()):
            node.entries[name] = draw(trees(depth - 1))
        else:
            node.entries[name] = text_file(draw(st.sampled_from("12")))
    return node


def model(first: dict[str, str], second: dict[str, str]) -> dict[str, str]:
    """The files of two trees that are put over each other."""
    kept = {
        path: text
        for path, text in first.items()
        if not any(
            f"{other}/".startswith(f"{path}/") or f"{path}/".startswith(f"{other}/")
            for other in second
        )
    }
    return kept | second


@given(trees(), trees())
def test_putting_is_what_a_copy_of_files_is(first: Node, second: Node) -> None:
    root = Root()
    root.put(first)
    root.put(second)
    files, over = shown(first), shown(second)
    # An empty directory in the way of a file replaces it, too.
    folders = {path.decode().lstrip("/") for path, one in walk(second) if one.is_dir}
    files = {path: text for path, text in files.items() if path not in folders}
    assert shown(root.tree) == model(files, over)

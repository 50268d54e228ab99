"""Merging layers: the same tree as umoci extracts, of any layers."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_infra.errors import InvalidError
from core_infra.vm._images.disk.ext4 import write_ext4
from core_infra.vm._images.disk.tree import Node, walk
from core_infra.vm._images.oci.layers import merge
from oci_images import Entry, folder, hard_link, layer, link, write_layout

Facts = dict[bytes, tuple[object, ...]]


def content(node: Node) -> bytes:
    result = bytearray(node.size)
    for piece in node.pieces:
        data = piece.data
        if piece.source is not None:
            with Path(piece.source).open("rb") as file:
                file.seek(piece.offset)
                data = file.read(piece.size)
        result[piece.at : piece.at + piece.size] = data
    return bytes(result)


def merged(layers: list[bytes], directory: Path) -> Node:
    paths = []
    for number, data in enumerate(layers):
        path = directory / f"{number}.tar"
        path.write_bytes(data)
        paths.append(path)
    return merge(paths)


def facts(root: Node) -> Facts:
    names: dict[int, list[bytes]] = {}
    found: Facts = {}
    for path, node in walk(root):
        names.setdefault(id(node), []).append(path)
    for path, node in walk(root):
        if path:
            kind = stat.S_IFMT(node.mode)
            what: object = node.target if node.is_link else content(node) if node.is_file else None
            if kind in (stat.S_IFCHR, stat.S_IFBLK):
                what = node.device
            same = () if node.is_dir else tuple(sorted(names[id(node)]))
            mode = None if node.is_link else stat.S_IMODE(node.mode)
            found[path] = (kind, mode, node.uid, node.gid, what, same)
    return found


def facts_on_disk(root: Path) -> Facts:
    top = os.fsencode(root)
    names: dict[tuple[int, int], list[bytes]] = {}
    paths = []
    for place, below, files in os.walk(top):
        paths += [os.path.join(place, name) for name in below + files]  # noqa: PTH118 - bytes
    for path in paths:
        status = os.lstat(path)
        names.setdefault((status.st_dev, status.st_ino), []).append(path.removeprefix(top))
    found: Facts = {}
    for path in paths:
        status = os.lstat(path)
        kind = stat.S_IFMT(status.st_mode)
        what: object = None
        if kind == stat.S_IFLNK:
            what = os.readlink(path)  # noqa: PTH115 - bytes
        elif kind == stat.S_IFREG:
            what = Path(os.fsdecode(path)).read_bytes()
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            what = (os.major(status.st_rdev), os.minor(status.st_rdev))
        own = names[status.st_dev, status.st_ino]
        same = () if kind == stat.S_IFDIR else tuple(sorted(own))
        mode = None if kind == stat.S_IFLNK else stat.S_IMODE(status.st_mode)
        found[path.removeprefix(top)] = (kind, mode, status.st_uid, status.st_gid, what, same)
    return found


def extracted(layers: list[bytes], directory: Path) -> Facts:
    """What umoci makes of an image."""
    write_layout(directory / "layout", layers)
    subprocess.run(
        ["umoci", "unpack", "--image", f"{directory}/layout:latest", str(directory / "bundle")],
        check=True,
        capture_output=True,
    )
    return facts_on_disk(directory / "bundle" / "rootfs")


NAMES = st.sampled_from(["a", "b", "c", "lib"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
ENTRIES = st.one_of(
    st.builds(folder, PATHS, st.sampled_from([0o755, 0o700, 0o1777])),
    st.builds(
        Entry,
        PATHS,
        data=st.sampled_from([b"", b"x", b"y" * 9000]),
        mode=st.sampled_from([0o644, 0o4755]),
        owner=st.sampled_from([(0, 0), (1000, 100)]),
    ),
    st.builds(link, PATHS, st.sampled_from(["a", "../b", "/lib", "nowhere/else"])),
    st.builds(lambda path: Entry(path, tarfile.FIFOTYPE), PATHS),
    st.builds(lambda path: Entry(path, tarfile.CHRTYPE, device=(1, 3)), PATHS),
)


def hidden(path: str) -> Entry:
    head, _, name = path.rpartition("/")
    return Entry(f"{head}/.wh.{name}".lstrip("/"))


def above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:size]) for size in range(1, len(parts))]


def without(tree: dict[str, Entry], path: str, *, itself: bool = True) -> dict[str, Entry]:
    return {
        other: entry
        for other, entry in tree.items()
        if not other.startswith(f"{path}/") and not (itself and other == path)
    }


def is_folder(entry: Entry | None) -> bool:
    return entry is None or entry.kind == tarfile.DIRTYPE


@st.composite
def layers_of_an_image(draw: st.DrawFn) -> list[list[Entry]]:
    """Layers as tools make them: what is removed comes first, each path once, below directories."""
    result: list[list[Entry]] = []
    tree: dict[str, Entry] = {}
    for _ in range(draw(st.integers(1, 4))):
        gone = []
        for path in draw(st.lists(st.sampled_from(sorted(tree) or [""]), max_size=2, unique=True)):
            if path in tree:
                gone.append(path)
                tree = without(tree, path)
        own: dict[str, Entry] = {}
        for entry in draw(st.lists(ENTRIES, max_size=6)):
            path = entry.name
            places = [path, *above(path)]
            if path in own or any(path == place for one in own for place in above(one)):
                continue
            if all(is_folder(own.get(place, tree.get(place))) for place in places[1:]):
                own |= {place: own.get(place, folder(place)) for place in places[1:]}
                own[path] = entry
        for path, entry in own.items():
            tree = tree if is_folder(entry) else without(tree, path)
            tree[path] = entry
        entries = [hidden(path) for path in gone] + [own[path] for path in sorted(own)]
        files = sorted(path for path, entry in own.items() if entry.kind == tarfile.REGTYPE)
        if files and "linked" not in tree and draw(st.booleans()):
            entries.append(hard_link("linked", draw(st.sampled_from(files))))
            tree["linked"] = Entry("linked")
        result.append(entries)
    return result


needs_umoci = pytest.mark.skipif(
    shutil.which("umoci") is None or os.geteuid() != 0, reason="needs umoci, and root for owners"
)


@needs_umoci
@settings(deadline=None, max_examples=60)
@given(layers_of_an_image())
def test_the_tree_is_what_umoci_extracts(image: list[list[Entry]]) -> None:
    layers = [layer(entries) for entries in image]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        assert facts(merged(layers, directory)) == extracted(layers, directory)


IMAGES: dict[str, list[list[Entry]]] = {
    "a merged /usr": [
        [folder("usr"), folder("usr/lib"), link("lib", "usr/lib"), Entry("usr/lib/one", data=b"1")],
        [Entry("lib/two", data=b"2"), Entry("lib/one", data=b"new")],
    ],
    "an absolute link above": [
        [folder("usr"), folder("usr/bin"), link("bin", "/usr/bin")],
        [Entry("bin/tool", data=b"#!")],
    ],
    "an opaque directory": [
        [folder("d"), Entry("d/old"), folder("d/sub"), Entry("d/sub/old")],
        [folder("d"), Entry("d/.wh..wh..opq"), Entry("d/new", data=b"n")],
    ],
    "an opaque directory, said last": [
        [folder("d"), Entry("d/old")],
        [folder("d"), Entry("d/new", data=b"n"), Entry("d/.wh..wh..opq")],
    ],
    "links across layers": [
        [Entry("a", data=b"same"), hard_link("b", "a")],
        [hard_link("c", "a")],
        [Entry("a", data=b"other")],
    ],
    "a directory becomes a file and a file a directory": [
        [folder("d"), Entry("d/x"), Entry("f")],
        [Entry("d", data=b"file"), folder("f"), Entry("f/y")],
    ],
    "odd names": [
        [
            Entry("with space"),
            Entry("new\nline"),
            Entry("\udcff\udcfe"),
            Entry("ü" * 60),
            Entry("-rf"),
        ],
    ],
    "paths that lead out": [
        [
            Entry("../../escape", data=b"in"),
            Entry("/absolute", data=b"in"),
            Entry("./dot", data=b"in"),
        ],
    ],
    "below a link to a directory": [
        [folder("d"), Entry("d/a"), folder("e"), Entry("e/a"), link("l", "d"), link("m", "e")],
        [Entry("l/.wh.a"), Entry("m/.wh..wh..opq"), Entry("m/new", data=b"n")],
    ],
    "a link to a directory becomes a directory": [
        [folder("d"), Entry("d/a"), link("l", "d")],
        [folder("l"), Entry("l/x")],
    ],
    "hard links outlive what they link to": [
        [Entry("a", data=b"1"), link("s", "a"), hard_link("t", "s")],
        [hard_link("b", "a"), Entry(".wh.a"), Entry(".wh.s")],
    ],
    "removed and made again": [
        [folder("d"), Entry("d/a"), folder("d/sub")],
        [Entry(".wh.d"), folder("d", 0o700), Entry("d/c"), Entry(".wh.never-there")],
    ],
    "no directories for files": [[Entry("x/y/f", data=b"1")], [Entry("x/z/g", data=b"2")]],
    "an entry twice": [
        [Entry("a", data=b"1"), Entry("a", data=b"2"), folder("d"), folder("d", 0o700)]
    ],
    "what aufs leaves": [[Entry("a")], [folder(".wh..wh.plnk"), Entry(".wh..wh.aufs"), Entry("b")]],
    "large owners, early and late times": [
        [Entry("a", owner=(4_000_000_000, 70_000)), Entry("b", mtime=-5), Entry("c", mtime=1 << 33)]
    ],
    "an empty layer": [[], [Entry("a")], []],
    "a hundred layers": [[Entry("f", data=str(n).encode()), Entry(f"own{n}")] for n in range(100)],
}


@needs_umoci
@pytest.mark.parametrize("name", IMAGES)
def test_odd_images_are_what_umoci_extracts(tmp_path: Path, name: str) -> None:
    layers = [layer(entries) for entries in IMAGES[name]]
    assert facts(merged(layers, tmp_path)) == extracted(layers, tmp_path)


@needs_umoci
@pytest.mark.parametrize(
    "options", [["v7"], ["ustar"], ["gnu"], ["posix"], ["posix", "--sparse"]], ids=" ".join
)
def test_archives_of_tar_are_what_umoci_extracts(tmp_path: Path, options: list[str]) -> None:
    tree = tmp_path / "tree"
    deep = tree
    for _ in range(1 if options[0] in ("v7", "ustar") else 6):
        deep = deep / ("d" * 60)
    deep.mkdir(parents=True)
    (deep / "f").write_bytes(b"x")
    (tree / "again").hardlink_to(deep / "f")
    (tree / "link").symlink_to("t" * 90)
    with (tree / "sparse").open("wb") as file:
        file.seek(300_000)
        file.write(b"y")
        file.truncate(1 << 20)
    form, *more = options
    tar = ["tar", "-C", str(tree), f"--format={form}", *more, "-cf", "-", "."]
    data = subprocess.run(tar, check=True, stdout=subprocess.PIPE).stdout
    assert facts(merged([data], tmp_path)) == extracted([data], tmp_path)


@settings(deadline=None, max_examples=150)
@given(layers_of_an_image(), st.data())
def test_any_damage_gives_a_tree_or_one_error(
    image: list[list[Entry]], data: st.DataObject
) -> None:
    whole = bytearray(layer([entry for entries in image for entry in entries]))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + 8] = data.draw(st.binary(min_size=1, max_size=12))
    for header in range(0, len(whole) - 511, 512):  # so that damage is not found by the checksum
        if whole[header + 257 : header + 262] == b"ustar":
            whole[header + 148 : header + 156] = b" " * 8
            whole[header + 148 : header + 156] = b"%06o\0 " % sum(whole[header : header + 512])
    with tempfile.TemporaryDirectory() as name, contextlib.suppress(InvalidError):
        write_ext4(Path(name, "disk"), merged([bytes(whole)], Path(name)), free=0)


def test_attributes_are_kept(tmp_path: Path) -> None:
    capability = "\x01\x00\x00\x02\x00\x20\x00\x00" + "\x00" * 12
    apple = {"com.apple.provenance": "x"}  # of no use to Linux
    entry = Entry("ping", mode=0o755, xattrs={"security.capability": capability, **apple})
    root = merged([layer([entry])], tmp_path)
    assert root.entries[b"ping"].xattrs == {b"security.capability": capability.encode()}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([hard_link("a", "missing")], "'a' is a link to 'missing', which does not exist"),
        ([folder("d"), hard_link("a", "d")], "which is a directory"),
        (
            [link("a", "b"), link("b", "a"), Entry("a/x")],
            "'/a': its links make a circle",
        ),
        ([Entry(".wh.")], "removes no file"),
        ([link("a", "")], "it is a symbolic link to ''"),
        ([Entry("x", owner=(1 << 40, 0))], "it belongs to 1099511627776:0"),
        ([Entry("x", b"V")], "its type is"),
    ],
)
def test_what_cannot_be_is_one_clear_error(
    tmp_path: Path, entries: list[Entry], message: str
) -> None:
    with pytest.raises(InvalidError, match=message):
        merged([layer(entries)], tmp_path)


@pytest.mark.parametrize("size", [100, 700, 1500])
def test_a_layer_that_is_cut_off_is_an_error(tmp_path: Path, size: int) -> None:
    whole = layer([Entry("a", data=b"x" * 2000), Entry("b", data=b"y" * 2000)])
    with pytest.raises(InvalidError, match=r"not a whole tar archive|is cut off"):
        merged([whole[:size]], tmp_path)

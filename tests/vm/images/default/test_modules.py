"""Kernel modules, chosen with their needs."""

import contextlib
import gzip
import lzma
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._images.default.modules import ModuleTree, index, modinfo
from kernel_packages import module

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def tree(root: Path, modules: Mapping[str, bytes], builtin: str = "") -> ModuleTree:
    directory = root / "6.1.0-fake"
    directory.mkdir()
    for path, data in modules.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(data)
    (directory / "modules.builtin").write_text(builtin)
    return ModuleTree(directory)


NET = {
    "kernel/net/failover.ko": module(),
    "kernel/net/net_failover.ko": module("failover"),
    "kernel/virtio/virtio_ring.ko": module(),
    "kernel/virtio/virtio.ko": module("virtio_ring"),
    "kernel/virtio/virtio-net.ko": module("virtio,net-failover,virtio_ring", ("virtio:d1v*",)),
}


def test_needs_come_first_and_names_may_be_spelt_either_way(tmp_path: Path) -> None:
    chosen = [item.name for item in tree(tmp_path, NET).select(["virtio-net"])]
    assert sorted(chosen) == ["failover", "net_failover", "virtio", "virtio_net", "virtio_ring"]
    assert chosen.index("virtio_ring") < chosen.index("virtio") < chosen.index("virtio_net")
    assert chosen.index("failover") < chosen.index("net_failover") < chosen.index("virtio_net")


def test_modprobe_reads_what_to_load_from_the_end_of_the_line(tmp_path: Path) -> None:
    files = index(tree(tmp_path, NET).select(["virtio_net"]))
    lines = dict(line.split(":") for line in files["modules.dep"].decode().splitlines())
    assert lines["kernel/virtio/virtio_ring.ko"] == ""
    order = lines["kernel/virtio/virtio-net.ko"].split()[::-1]
    assert len(order) == len(set(order)) == 4
    assert order.index("kernel/virtio/virtio_ring.ko") < order.index("kernel/virtio/virtio.ko")
    assert order.index("kernel/net/failover.ko") < order.index("kernel/net/net_failover.ko")
    assert files["modules.alias"] == b"alias virtio:d1v* virtio_net\n"


def test_packed_modules_are_unpacked(tmp_path: Path) -> None:
    plain = module("a,b,c")
    modules = {
        "a.ko.xz": lzma.compress(module()),
        "b.ko.gz": gzip.compress(module()),
        "c.ko.zst": zstd.compress(module()),
        "d.ko": plain,
    }
    chosen = tree(tmp_path, modules).select(["d"])
    assert [item.path for item in chosen] == ["a.ko", "b.ko", "c.ko", "d.ko"]
    assert [item.data for item in chosen] == [module(), module(), module(), plain]


def test_what_is_part_of_the_kernel_is_left_out(tmp_path: Path) -> None:
    modules = {"kernel/a.ko": module("virtio_ring,b")}
    kernel = tree(tmp_path, modules, builtin="kernel/x/virtio-ring.ko\nkernel/b.ko\n")
    assert [item.name for item in kernel.select(["a", "b"], ["virtio_ring"])] == ["a"]


def test_an_optional_module_may_be_missing_but_not_what_it_needs(tmp_path: Path) -> None:
    kernel = tree(tmp_path, {"a.ko": module("gone")})
    assert kernel.select([], ["9p"]) == []
    with pytest.raises(NotFoundError, match="no module gone: needed by a"):
        kernel.select([], ["a"])
    with pytest.raises(NotFoundError, match=r"Linux 6\.1\.0-fake has no module virtio_pci"):
        kernel.select(["virtio-pci"])


def test_modules_that_need_each_other_are_refused(tmp_path: Path) -> None:
    kernel = tree(tmp_path, {"a.ko": module("b"), "b.ko": module("a")})
    with pytest.raises(InvalidError, match="a → b → a"):
        kernel.select(["a"])


def test_a_damaged_module_is_named(tmp_path: Path) -> None:
    kernel = tree(tmp_path, {"kernel/a.ko.xz": lzma.compress(module())[:-20], "b.ko": b"no"})
    with pytest.raises(InvalidError, match=r"kernel/a\.ko\.xz is damaged"):
        kernel.select(["a"])
    with pytest.raises(InvalidError, match=r"b\.ko is damaged"):
        kernel.select(["b"])


@given(st.lists(st.sampled_from("abcdefgh"), unique=True), st.data())
def test_any_module_without_cycles_is_loadable_in_the_given_order(
    names: list[str], data: st.DataObject
) -> None:
    needs = {
        name: data.draw(st.lists(st.sampled_from(names[:number]), unique=True)) if number else []
        for number, name in enumerate(names)
    }
    with tempfile.TemporaryDirectory() as root:
        files = {f"{name}.ko": module(",".join(needs[name])) for name in names}
        loaded: set[str] = set()
        for item in tree(Path(root), files).select(reversed(names)):
            assert set(item.depends) <= loaded
            loaded.add(item.name)
    assert loaded == set(names)


@given(st.text(st.characters(exclude_characters="\0,", codec="ascii"), max_size=20), st.binary())
def test_modinfo_gives_back_each_value(value: str, junk: bytes) -> None:
    facts = modinfo(module("x", ("one", "two"), {"description": value}) + junk)
    assert facts["alias"] == ["one", "two"]
    assert facts["description"] == [value]


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8), st.integers(0))
def test_damage_gives_a_clear_error_or_none(damage: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(module("a,b", ("alias",)))
    for position, value in damage:
        data[position % len(data)] = value
    with contextlib.suppress(InvalidError):
        modinfo(bytes(data[: len(data) - cut % len(data)]))

"""Kernels, unwrapped or left as they are, and damaged ones."""

import contextlib
import gzip
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_infra.errors import InvalidError
from core_infra.vm._images.default.kernel import unwrap
from core_infra.vm._images.magic import kernel_kind
from kernel_packages import PACKERS, bzimage, elf_kernel, lz4_legacy

VMLINUX = elf_kernel(b"the kernel " * 1000)


def packed(method: str, kernel: bytes = VMLINUX) -> bytes:
    payload = PACKERS[method](kernel)
    return bzimage(payload, len(kernel), sized_by_itself=method == "gzip")


@pytest.mark.parametrize("method", PACKERS)
def test_a_bzimage_gives_the_elf_file_in_it_by_whatever_method_it_was_packed(method: str) -> None:
    assert unwrap(packed(method)) == VMLINUX


def test_lz4_goes_over_many_blocks() -> None:
    kernel = elf_kernel(bytes(range(256)) * 70_000)  # 18 MB, blocks are of 8 MiB
    assert unwrap(bzimage(lz4_legacy(kernel), len(kernel))) == kernel


def test_a_kernel_that_qemu_could_not_enter_stays_packed() -> None:
    other_note = struct.pack("<III", 4, 4, 6) + b"Xen\0" + b"abcd"
    image = packed("lz4", elf_kernel(note=other_note))
    assert unwrap(image) == image


def test_a_note_after_others_is_found() -> None:
    padded = struct.pack("<III", 5, 3, 1) + b"Linux"[:4] + b"\0" * 4 + b"abc\0"
    kernel = elf_kernel(note=padded + elf_kernel()[64 + 56 :])
    assert unwrap(packed("gzip", kernel)) == kernel


def test_an_unknown_method_leaves_the_kernel_as_it_is() -> None:
    image = bzimage(b"\x89LZO\0 whatever", 100)
    assert unwrap(image) == image


def test_arm64_kernels_are_unpacked() -> None:
    image = b"\0" * 0x38 + b"ARM\x64" + b"\0" * 600
    assert unwrap(image) == image
    assert unwrap(gzip.compress(image)) == image
    payload = gzip.compress(image)
    zboot = b"MZ\0\0zimg" + struct.pack("<II", 64, len(payload)) + b"\0" * 48 + payload
    assert unwrap(zboot) == image


@pytest.mark.parametrize("method", PACKERS)
def test_a_payload_that_is_not_as_long_as_promised_is_refused(method: str) -> None:
    payload = PACKERS[method](VMLINUX)
    if method == "gzip":
        payload = payload[:-4] + struct.pack("<I", 17)
        image = bzimage(payload, 17, sized_by_itself=True)
    else:
        image = bzimage(payload, len(VMLINUX) + 1)
    with pytest.raises(InvalidError, match="unpacked"):
        unwrap(image)


def test_a_kernel_that_is_cut_off_says_so() -> None:
    with pytest.raises(InvalidError, match="cut off"):
        unwrap(packed("xz")[:-100])


@given(st.binary(max_size=700).filter(lambda data: kernel_kind(data) is None))
def test_bytes_that_are_no_kernel_are_refused_and_nothing_worse(data: bytes) -> None:
    with pytest.raises(InvalidError):
        unwrap(data)


@given(
    st.sampled_from([*PACKERS, "none", "arm64", "zboot"]),
    st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=8),
    st.integers(0, 400),
)
def test_damage_anywhere_never_gives_anything_but_a_clear_error(
    kind: str, damage: list[tuple[int, int]], cut: int
) -> None:
    payload = gzip.compress(VMLINUX)
    images = {
        "none": VMLINUX,
        "arm64": payload,
        "zboot": b"MZ\0\0zimg" + struct.pack("<II", 16, len(payload)) + payload,
    }
    image = bytearray(images[kind] if kind in images else packed(kind))
    for position, value in damage:
        image[position % len(image)] = value
    with contextlib.suppress(InvalidError):
        unwrap(bytes(image[: len(image) - cut]))


@given(st.binary(max_size=300), st.binary(max_size=200))
def test_an_elf_file_with_any_header_and_notes_never_crashes(head: bytes, note: bytes) -> None:
    inner = (b"\x7fELF\x02" + head).ljust(64, b"\0") + elf_kernel(note=note)[64:]
    with contextlib.suppress(InvalidError):
        unwrap(bzimage(PACKERS["lz4"](inner), len(inner)))
    with contextlib.suppress(InvalidError):
        unwrap(bzimage(PACKERS["lz4"](elf_kernel(note=note)), len(elf_kernel(note=note))))

"""Lines come out whole, however the bytes came in, and nothing is held back without bound."""

from __future__ import annotations

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from core_infra.process._output import LineSplitter

PIECES = st.lists(st.text("ab\n\ré€\U0001f600", max_size=12).map(str.encode), max_size=8)


def split(pieces: list[bytes], max_line: int) -> list[tuple[str, bool]]:
    splitter = LineSplitter(max_line)
    found: list[tuple[str, bool]] = []
    for piece in pieces:
        parts, data = splitter.overflow(piece)
        found += parts
        found += [(line, False) for line in splitter.feed(data)]
        assert splitter._size == sum(map(len, splitter._held)) <= max_line
    rest = splitter.rest()
    return found if rest is None else [*found, (rest, False)]


def recut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({*range(0, len(data), 4), len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[first:last] for first, last in itertools.pairwise(places)]


@given(PIECES, st.lists(st.integers(0, 200), max_size=6))
def test_any_cuts_give_the_lines_of_the_whole(pieces: list[bytes], cuts: list[int]) -> None:
    data = b"".join(pieces)
    *whole, rest = data.decode().split("\n")
    expected = [line.removesuffix("\r") for line in whole]
    expected += [rest.removesuffix("\r")] if rest else []
    assert [text for text, _ in split(recut(data, cuts), 1000)] == expected


@given(PIECES, st.lists(st.integers(0, 200), max_size=6), st.integers(4, 9))
@example(["€€€€".encode()], [1, 4, 5, 7], 4)
def test_a_long_line_comes_in_parts_between_characters(
    pieces: list[bytes], cuts: list[int], max_line: int
) -> None:
    data = b"".join(pieces).replace(b"\r", b"")
    found = split(recut(data, cuts), max_line)
    text = "".join(text if partial else f"{text}\n" for text, partial in found)
    assert text.removesuffix("\n") == data.decode().removesuffix("\n")
    assert all(len(part.encode()) <= max_line for part, _ in found)


@given(st.lists(st.binary(max_size=30), max_size=10))
def test_bytes_that_are_no_text_are_no_accident(pieces: list[bytes]) -> None:
    found = split(pieces, 1000)
    lines = b"".join(pieces).split(b"\n")
    expected = [line.decode(errors="replace").removesuffix("\r") for line in lines]
    assert [text for text, _ in found] == (expected if lines[-1] else expected[:-1])

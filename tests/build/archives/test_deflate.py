"""Compression on several threads."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_infra.build._archives.deflate import in_order, regroup

if TYPE_CHECKING:
    from collections.abc import Iterator


@given(st.lists(st.binary(max_size=50)), st.integers(1, 40))
def test_regroup_cuts_blocks_of_one_size(chunks: list[bytes], size: int) -> None:
    blocks = list(regroup(chunks, size))
    assert b"".join(data for data, _ in blocks) == b"".join(chunks)
    assert [is_last for _, is_last in blocks] == [False] * (len(blocks) - 1) + [True]
    assert {len(data) for data, _ in blocks[:-1]} <= {size}
    assert len(blocks[-1][0]) <= size


def test_work_in_order_is_cancelled_when_one_fails() -> None:
    done = []

    def work(number: int) -> int:
        if number == 3:
            raise ValueError(number)
        done.append(number)
        return number

    with pytest.raises(ValueError, match="3"):
        list(in_order(work, range(10_000), 2))
    assert len(done) < 20


def test_work_in_order_takes_few_items_ahead() -> None:
    taken = []

    def watched() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    with closing(in_order(lambda item: item, watched(), 3)) as results:
        assert next(results) == 0
        assert len(taken) <= 6

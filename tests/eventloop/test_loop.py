"""Callbacks get the events of their own descriptors."""

from __future__ import annotations

import os
from functools import partial

from core_infra._eventloop.latch import Latch
from core_infra._eventloop.loop import READ
from core_infra._eventloop.supervisor import supervisor


def test_a_reused_number_does_not_get_the_event_of_the_closed_descriptor() -> None:
    pairs = [os.pipe() for _ in range(2)]
    readers = {reader for reader, _ in pairs}
    spurious: list[int] = []
    opened: list[int] = []
    done = Latch()

    def replace_the_other(own: int, _events: int) -> None:
        [other] = readers - {own}
        for fd in (own, other):
            supervisor().unwatch(fd)
        idle, writer = os.pipe()
        opened.extend((idle, writer))
        os.dup2(idle, other)  # closes it; nothing is ever written to the new one
        supervisor().watch(other, READ, lambda _: spurious.append(other))
        supervisor().after(0, done.set)

    def watch_both() -> None:  # in one job: both are ready in the same turn
        for reader, writer in pairs:
            os.write(writer, b"x")
            supervisor().watch(reader, READ, partial(replace_the_other, reader))

    supervisor().call(watch_both)
    assert done.wait(60)
    for reader in readers:
        supervisor().call(partial(supervisor().unwatch, reader))
    for fd in {*readers, *opened, *(writer for _, writer in pairs)}:
        os.close(fd)
    assert spurious == []

"""A thread runs a loop of its own while it waits; nothing of it is lost when it ends."""

import os
import threading

from core_infra._eventloop.caller_loop import CallerLoop
from core_infra._eventloop.latch import Latch
from core_infra._eventloop.supervisor import supervisor


def test_the_supervisor_takes_over_what_is_left() -> None:
    heard = threading.Event()
    ours, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def hear(_events: int) -> None:
        assert supervisor().is_current()
        os.read(ours, 1)
        heard.set()

    with CallerLoop() as loop:
        loop.watch(ours, 1, hear)
        assert loop.is_current()
    assert not loop.is_current()
    os.write(theirs, b"x")
    assert heard.wait(30)
    later = threading.Event()
    loop.post(later.set)
    assert later.wait(30)
    loop.unwatch(ours)
    os.close(ours)
    os.close(theirs)


def test_a_loop_that_waits_is_woken() -> None:
    event = Latch()
    with CallerLoop() as loop:

        def post() -> None:
            loop.post(event.set)

        thread = threading.Thread(target=post)
        thread.start()
        assert loop.wait(event, 30)
        thread.join()
        assert not loop.wait(Latch(), 0.001)

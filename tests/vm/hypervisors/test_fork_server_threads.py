"""All threads of a process go on in its clone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import TimeoutExpiredError
from forkable import Forkable, open_here

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def process() -> Iterator[Forkable]:
    with Forkable.start() as process:
        yield process


WAITERS = (
    "go = threading.Event();;"
    "waiters = [threading.Thread(target=go.wait) for _ in range(8)];;"
    "[t.start() for t in waiters];;"
    "kernel_name = ctypes.CDLL(None).pthread_setname_np;;"
    "[kernel_name(ctypes.c_ulong(t.ident), b'waiter%d' % n) for n, t in enumerate(waiters)]"
)


def test_all_threads_go_on_in_the_clone(process: Forkable) -> None:
    process.ask(WAITERS)
    before = process.threads()
    with process.fork() as clone:
        assert sorted(clone.threads().values()) == sorted(before.values())
        assert not clone.threads().keys() & before.keys()
        assert clone.ask("go.set() or [t.join() for t in waiters]") == str([None] * 8)
        # What remains: the one of the commands, which is no longer the first, and the library's.
        clone.ask("while len(os.listdir('/proc/self/task')) > 2: time.sleep(1e-3)")
    assert process.threads() == before
    assert process.ask("any(t.is_alive() for t in waiters), go.is_set()") == "(True, False)"


def test_the_c_library_knows_the_clones_threads(process: Forkable) -> None:
    process.ask(WAITERS)
    process.ask("libc = ctypes.CDLL(None)")
    process.ask("lock = ctypes.create_string_buffer(64)")
    recursive = "(ctypes.c_int * 4)(1)"  # what PTHREAD_MUTEX_RECURSIVE is in an attribute
    process.ask(f"libc.pthread_mutex_init(lock, {recursive})")
    with process.fork() as clone:
        # A recursive mutex has its owner's thread id in it; signals are sent by it.
        assert clone.ask("[libc.pthread_mutex_lock(lock) for _ in range(2)]") == "[0, 0]"
        assert clone.ask("[libc.pthread_mutex_unlock(lock) for _ in range(3)]") == "[0, 0, 1]"
        assert clone.ask(
            "os.getpid(), libc.gettid() in map(int, os.listdir('/proc/self/task'))"
        ) == (f"({clone.pid}, True)")
        assert clone.ask("libc.sched_getcpu() >= 0") == "True"
        assert clone.ask("signal.pthread_kill(waiters[0].ident, 0)") == "None"


def test_a_busy_thread_is_not_forked(process: Forkable) -> None:
    # More than a second of work that does not wait for anything, not even for Python's own lock.
    work = "target=hashlib.pbkdf2_hmac, args=('sha256', b'', b'', 4_000_000)"
    process.ask(f"import hashlib;;worker = threading.Thread({work});;worker.start()")
    with pytest.raises(TimeoutExpiredError, match=r"thread \d+ was busy") as caught:
        process.fork(timeout=0.1)
    assert caught.value.thread in process.threads()
    process.ask("worker.join()")
    with process.fork() as clone:
        assert clone.ask("worker.is_alive()") == "False"


def test_threads_that_come_and_go_do_not_matter(process: Forkable) -> None:
    # Each is there for a moment only, and most of its time is its beginning and its end.
    process.ask(
        "def churn():;;"
        "    while True:;;"
        "        t = threading.Thread(target=time.sleep, args=(1e-4,));;"
        "        t.start();;        t.join();;        time.sleep(1e-3)"
    )
    process.ask("[threading.Thread(target=churn, daemon=True).start() for _ in range(2)]")
    for _ in range(20):
        with process.fork(timeout=20) as clone:
            assert clone.ask("os.getpid()") == str(clone.pid)


def test_many_forks_leave_nothing_behind(process: Forkable) -> None:
    process.fork().close()
    before = process.descriptors()
    ours = open_here()
    with ExitStack() as stack:
        for _ in range(100):
            process.fork().close()
        deepest = process
        for _ in range(8):
            deepest = stack.enter_context(deepest.fork())
        assert deepest.descriptors().keys() == before.keys()
        assert len(deepest.threads()) == len(process.threads())
    assert process.descriptors() == before
    assert open_here() == ours


def test_several_threads_fork_at_once(process: Forkable) -> None:
    process.ask(WAITERS)
    barrier = threading.Barrier(8)

    def fork(_number: int) -> int:
        barrier.wait()
        with process.fork(timeout=20) as clone:
            assert clone.ask("go.set() or [t.join() for t in waiters]") == str([None] * 8)
            return clone.pid

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(fork, range(8)))) == 8

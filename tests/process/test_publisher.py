"""The events of processes on the bus."""

from __future__ import annotations

import logging
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from core_infra.framework import Core, service_for, with_name
from core_infra.process import (
    ActionProcessExited,
    ActionProcessKilled,
    ActionProcessOutput,
    ActionProcessStarted,
    LogPattern,
    ProgramNotFoundError,
    RestartPolicy,
    RunOptions,
    Service,
    ServiceOptions,
    Status,
    Stream,
    new_service,
)
from core_infra.process._output import MAX_LINE
from process_programs import PYTHON, STUBBORN

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def core() -> Iterator[Core]:
    with Core(with_name("process", new_service(ServiceOptions(buffer_size=1000)))) as running:
        yield running


@pytest.fixture
def service(core: Core) -> Service:
    return service_for(core, "process", Service)


@pytest.fixture
def published(core: Core) -> list[object]:
    messages: list[object] = []
    core.register_action(messages.append)
    return messages


def test_a_run_from_its_start_to_its_end(service: Service, published: list[object]) -> None:
    service.run_with_options(RunOptions("sh", ["-c", "echo out; echo err >&2; echo tail"]))
    started, *output, exited = published
    assert isinstance(started, ActionProcessStarted)
    assert (started.id, started.command, started.args[0]) == ("proc-1", "sh", "-c")
    assert started.pid > 0
    assert [line for line in output if getattr(line, "stream", None) is Stream.STDOUT] == [
        ActionProcessOutput("proc-1", "out", Stream.STDOUT),
        ActionProcessOutput("proc-1", "tail", Stream.STDOUT),
    ]
    assert ActionProcessOutput("proc-1", "err", Stream.STDERR) in output
    assert isinstance(exited, ActionProcessExited)
    assert (exited.id, exited.exit_code, exited.error) == ("proc-1", 0, None)
    assert exited.duration > 0


def test_an_end_by_signal(service: Service, published: list[object]) -> None:
    service.start("sleep", "60").kill()
    stubborn = service.start("sh", "-c", STUBBORN)
    stubborn.wait_ready(LogPattern("ready"))
    stubborn.stop(0.01)
    kills = [message for message in published if isinstance(message, ActionProcessKilled)]
    assert kills == [
        ActionProcessKilled("proc-1", signal.SIGKILL),
        ActionProcessKilled("proc-2", signal.SIGKILL),
    ]


def test_a_failed_start_is_published(service: Service, published: list[object]) -> None:
    with pytest.raises(ProgramNotFoundError):
        service.start("no-such-program")
    service.run("true")
    [failed] = [event for event in published if isinstance(event, ActionProcessExited)][:1]
    assert failed.exit_code is None
    assert isinstance(failed.error, ProgramNotFoundError)


def test_everything_is_published_before_wait_returns(
    service: Service, published: list[object]
) -> None:
    for number in range(1, 30):
        service.start("seq", "100").wait(30)
        lines = [event for event in published if isinstance(event, ActionProcessOutput)]
        assert len(lines) == 100 * number
        assert isinstance(published[-1], ActionProcessExited)


def test_a_last_line_needs_no_end(service: Service, published: list[object]) -> None:
    service.run("printf", r"one\r\ntwo\xff\n\nthree")
    lines = [event.line for event in published if isinstance(event, ActionProcessOutput)]
    assert lines == ["one", "two\N{REPLACEMENT CHARACTER}", "", "three"]


def test_a_line_of_megabytes_is_whole(service: Service, published: list[object]) -> None:
    service.run(PYTHON, "-c", f"print('x' * {MAX_LINE - 1}); print('y')")
    lines = [event for event in published if isinstance(event, ActionProcessOutput)]
    assert [(len(line.line), line.partial) for line in lines] == [(MAX_LINE - 1, False), (1, False)]


def test_a_line_without_end_is_published_in_parts(service: Service, core: Core) -> None:
    sizes: list[int] = []

    def note(event: ActionProcessOutput) -> None:
        sizes.append(len(event.line))
        assert event.partial == (sum(sizes) < 100_000_000)

    core.register_action(note, ActionProcessOutput)
    service.run("sh", "-c", "head -c 100000000 /dev/zero | tr '\\0' x")
    assert sum(sizes) == 100_000_000
    assert max(sizes) <= MAX_LINE


def test_a_handler_may_start_programs_and_wait_for_them(service: Service, core: Core) -> None:
    outputs: list[str] = []

    def follow(event: ActionProcessExited) -> None:
        if event.id == "proc-1":
            outputs.append(service.run("echo", "from the handler"))
            service.start("sleep", "60").kill()

    core.register_action(follow, ActionProcessExited)
    service.run("true")
    assert outputs == ["from the handler\n"]


@pytest.mark.parametrize("is_removed", [False, True])
def test_a_shutdown_waits_for_the_events_of_what_has_just_ended(
    service: Service, core: Core, *, is_removed: bool
) -> None:
    released = threading.Event()
    published: list[object] = []

    def publish_late(event: object) -> None:
        released.wait(30)
        published.append(event)

    core.register_action(publish_late)
    process = service.start("sh", "-c", "sleep 0.01")
    while process.status is not Status.EXITED:
        time.sleep(0.001)
    if is_removed:
        service.remove(process.id)
    threading.Timer(0.2, released.set).start()
    service.shutdown()
    assert isinstance(published[-1], ActionProcessExited)
    assert process.done.is_set()


def test_a_handler_may_shut_the_service_down(service: Service, core: Core) -> None:
    ended = threading.Event()

    def end(event: object) -> None:
        if isinstance(event, ActionProcessExited):
            service.shutdown()
            ended.set()

    core.register_action(end)
    assert service.start("true").wait(30) == 0
    assert ended.is_set()


def test_a_handler_that_raises_is_logged_and_stops_nothing(
    service: Service, core: Core, published: list[object], caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(event: ActionProcessOutput) -> None:
        raise ValueError(event.line)

    core.register_action(refuse, ActionProcessOutput)
    with caplog.at_level(logging.ERROR):
        assert service.run("seq", "3") == "1\n2\n3\n"
    assert [event.line for event in published if isinstance(event, ActionProcessOutput)] == [
        *("1", "2", "3")
    ]
    assert len(caplog.records) == 3


def test_a_slow_handler_makes_the_program_wait(service: Service, core: Core) -> None:
    go_on = threading.Event()
    lines = 0

    def be_slow(event: ActionProcessOutput) -> None:
        nonlocal lines
        assert go_on.wait(60)
        lines += event.stream is Stream.STDOUT

    core.register_action(be_slow, ActionProcessOutput)
    script = "import sys\nfor _ in range(300): sys.stdout.write(('x' * 999 + '\\n') * 100)"
    process = service.start(PYTHON, "-c", script)
    other = service.start("cat")
    other.send_input("served all the same")
    assert other.read(0, timeout=30).data == b"served all the same"
    assert process.is_running()
    go_on.set()
    assert process.wait(60) == 0
    assert lines == 30_000


def test_each_run_of_a_restarted_program_is_published(
    service: Service, published: list[object]
) -> None:
    policy = RestartPolicy("on_failure", max_restarts=2, backoff=0)
    options = RunOptions("sh", ["-c", "printf half; exit 1"], restart=policy)
    service.start_with_options(options).wait(30)
    kinds = [type(message) for message in published]
    assert kinds == [ActionProcessStarted, ActionProcessOutput] * 3 + [ActionProcessExited]

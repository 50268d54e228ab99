"""Wrong arguments of the public calls: one clear error each, and nothing is started."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.errors import InvalidError, NotFoundError
from core_infra.medium import MemoryMedium
from core_infra.process import (
    CommandSucceeds,
    FileExists,
    HttpStatus,
    Process,
    RestartPolicy,
    RingBuffer,
    Runner,
    RunOptions,
    RunSpec,
    Service,
    ServiceOptions,
    TcpPort,
    UnixSocket,
    load_tasks,
    new_service,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def generator() -> Iterator[Any]:
    yield "true"


VALUES: list[Callable[[], object]] = [
    lambda: TcpPort(port=True),
    lambda: TcpPort(80, host=5),  # type: ignore[arg-type]
    lambda: TcpPort(80, host=b"localhost"),  # type: ignore[arg-type]
    lambda: TcpPort(80, timeout=math.nan),
    lambda: TcpPort(80, timeout=True),
    lambda: UnixSocket(b"socket"),  # type: ignore[arg-type]
    lambda: FileExists(None),  # type: ignore[arg-type]
    lambda: HttpStatus("http://localhost/", status="200"),  # type: ignore[arg-type]
    lambda: HttpStatus("http://localhost/", status=[]),
    lambda: CommandSucceeds(5),  # type: ignore[arg-type]
    lambda: CommandSucceeds([5]),  # type: ignore[list-item]
    lambda: CommandSucceeds(generator()),  # type: ignore[arg-type]
    lambda: RestartPolicy("always", backoff="1"),  # type: ignore[arg-type]
    lambda: RestartPolicy("always", max_restarts=True),
    lambda: RestartPolicy("always", reset_after=math.nan),
    lambda: RingBuffer("1"),  # type: ignore[arg-type]
    lambda: ServiceOptions(buffer_size="1"),  # type: ignore[arg-type]
    lambda: new_service({"buffer_size": 5}),  # type: ignore[arg-type]
    lambda: Service(5),  # type: ignore[arg-type]
    lambda: Service(options={"buffer_size": 5}),  # type: ignore[arg-type]
    lambda: Runner(None),  # type: ignore[arg-type]
    lambda: RunSpec("a", "true", env=None),  # type: ignore[arg-type]
    lambda: RunSpec("a", "true", retries=True),
    lambda: RunSpec("a", "true", args=generator()),  # type: ignore[arg-type]
    lambda: load_tasks(None, "tasks.yml"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("make", VALUES, ids=range(len(VALUES)))
def test_a_wrong_value_is_refused_where_it_is_given(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidError):
        make()


OPTIONS: list[tuple[str, Any]] = [
    ("timeout", True),
    ("timeout", math.nan),
    ("timeout", "5"),
    ("grace_period", True),
    ("grace_period", math.nan),
    ("linger", -1),
    ("buffer_size", True),
    ("stop_signal", True),
    ("pty_size", (True, 80)),
    ("pass_fds", 3),
    ("pass_fds", "3"),
    ("pass_fds", (number for number in [3])),
    ("pass_fds", [True]),
    ("stdin", True),
    ("stdin", 10**30),
    ("stdin", -1),
    ("args", generator()),
    ("env", [("A", "1")]),
]


@pytest.mark.parametrize(("name", "value"), OPTIONS)
def test_a_wrong_option_starts_nothing(
    service: Service, tmp_path: Path, name: str, value: object
) -> None:
    fields: dict[str, Any] = {"args": ["made"], name: value}
    with pytest.raises(InvalidError):
        service.start_with_options(RunOptions("touch", dir=tmp_path, **fields))
    assert not service.list()
    assert not list(tmp_path.iterdir())


CALLS: list[tuple[str, Callable[[Process], object]]] = [
    ("timeout is None", lambda process: process.wait_ready(timeout=None)),  # type: ignore[arg-type]
    ("timeout is nan", lambda process: process.wait_ready(timeout=math.nan)),
    ("timeout is True", lambda process: process.wait(timeout=True)),
    ("interval is None", lambda process: process.wait_ready(interval=None)),  # type: ignore[arg-type]
    ("5 is not a probe", lambda process: process.wait_ready(5)),  # type: ignore[arg-type]
    ("TcpPort'> is not a probe", lambda process: process.wait_ready(TcpPort)),  # type: ignore[arg-type]
    ("grace is '1'", lambda process: process.stop("1")),  # type: ignore[arg-type]
    ("offset is None", lambda process: process.read(None)),  # type: ignore[arg-type]
    ("offset is -1", lambda process: process.read_by_stream(-1)),
    ("signal True", lambda process: process.signal(True)),  # noqa: FBT003
    ("'ls' is not a command", lambda process: process.run_beside("ls", 1)),
    ("timeout is '1'", lambda process: process.run_beside(["ls"], "1")),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("what", "call"), CALLS)
def test_a_wrong_argument_leaves_the_process_as_it_is(
    service: Service, what: str, call: Callable[[Process], object]
) -> None:
    process = service.start("sleep", "600")
    with pytest.raises(InvalidError) as caught:
        call(process)
    assert what in str(caught.value)
    assert process.is_running()


def test_what_is_not_options_or_a_name_is_refused(service: Service) -> None:
    with pytest.raises(InvalidError, match="must be RunOptions"):
        service.run_with_options("true")  # type: ignore[arg-type]
    names: list[Any] = [None, [], "proc-7"]
    for name in names:
        with pytest.raises(NotFoundError, match="no process"):
            service.get(name)


@pytest.mark.parametrize("specs", [None, 5, "true", ["true"], [RunSpec("a", "true"), None]])
def test_what_is_not_a_list_of_specs_is_refused(service: Service, specs: Any) -> None:
    runner = Runner(service)
    for run in (runner.run_all, runner.run_sequential, runner.run_parallel, runner.plan):
        with pytest.raises(InvalidError, match="must be a list of RunSpec"):
            run(specs)
    with pytest.raises(InvalidError, match="cleanup has"):
        runner.run_all([], cleanup=specs or [None])
    assert not service.list()


def test_a_task_file_may_be_read_by_whatever_reads_files() -> None:
    medium = MemoryMedium()
    medium.write_text("tasks.yml", "tasks: {a: {command: 'true'}}")
    assert [spec.name for spec in load_tasks(medium, "tasks.yml").specs] == ["a"]

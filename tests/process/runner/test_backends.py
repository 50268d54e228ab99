"""Specs on executors: threads, processes, and a cluster."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.errors import TimeoutExpiredError
from core_infra.process import RunInterruptedError, Runner, RunSpec
from core_infra.process._runner import attempt
from support import wait_gone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.process._service import Service


@pytest.fixture(scope="module")
def cluster() -> Iterator[Executor]:
    """Two worker processes that hear of tasks by the network only."""
    distributed = pytest.importorskip("distributed", reason="needs dask: core-infra[dask]")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    with pytest.MonkeyPatch.context() as patch:
        # They must find this module: a function goes to them by its name, and our path with it.
        patch.syspath_prepend(Path(__file__).parents[3])
        with (
            distributed.LocalCluster(**options, dashboard_address=":0", host="127.0.0.1") as local,
            distributed.Client(local) as client,
        ):
            yield client.get_executor()


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        yield executor


@pytest.fixture(scope="module")
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture(params=["threads", "processes", "cluster"])
def executor(request: pytest.FixtureRequest) -> Executor:
    found: Executor = request.getfixturevalue(request.param)
    return found


def meet(directory: str, mine: str, other: str) -> int:
    """Wait for the one that runs beside this; the process that this runs in."""
    Path(directory, mine).touch()
    for _ in range(6000):
        if Path(directory, other).exists():
            return os.getpid()
        threading.Event().wait(0.01)
    raise TimeoutError(f"{other} did not come within a minute")


def test_the_whole_of_it(service: Service, executor: Executor, tmp_path: Path) -> None:
    log = tmp_path / "log"
    specs = [
        RunSpec("deploy", "sh", ["-c", f"echo deploy >> {log}"], after=["test"]),
        RunSpec("build", "sh", ["-c", f'echo "build $N" >> {log}; echo out'], env={"N": "7"}),
        RunSpec("test", "sh", ["-c", f"echo test >> {log}"], after=["build"]),
        RunSpec("fails", "sh", ["-c", "echo why >&2; exit 3"], retries=1),
        RunSpec("skipped", "true", after=["fails"]),
        RunSpec("absent", "no-such-program-here"),
        RunSpec("slow", "sleep", ["60"], timeout=0.2),
        RunSpec("sum", call=partial(sum, (40, 2))),
        RunSpec("raises", call=partial(int, "x")),
    ]
    result = Runner(service).run_all(specs, executor=executor)
    assert [one.name for one in result.results] == [spec.name for spec in specs]
    assert log.read_text() == "build 7\ntest\ndeploy\n"
    assert result["build"].output == "out\n"
    assert (result["fails"].exit_code, result["fails"].output) == (3, "why\n")
    assert result["fails"].attempts == 2
    assert result["skipped"].cause == "fails"
    assert "no-such-program-here" in result["absent"].reason
    assert isinstance(result["slow"].error, TimeoutExpiredError)
    assert result["sum"].value == 42
    assert isinstance(result["raises"].error, ValueError)
    assert (result.passed, result.failed, result.skipped) == (4, 4, 1)
    assert not service.list()


def test_several_processes_of_a_cluster_work_at_once(
    service: Service, cluster: Executor, tmp_path: Path
) -> None:
    specs = [
        RunSpec("a", call=partial(meet, str(tmp_path), "a", "b")),
        RunSpec("b", call=partial(meet, str(tmp_path), "b", "a")),
    ]
    result = Runner(service).run_all(specs, executor=cluster)
    assert result.success
    pids = {one.value for one in result.results}
    assert len(pids | {os.getpid()}) == 3


def test_a_limit_of_workers_and_places_holds_on_an_executor(service: Service) -> None:
    most = 0
    lock = threading.Lock()
    busy: list[int] = []

    def work() -> None:
        nonlocal most
        with lock:
            busy.append(1)
            most = max(most, len(busy))
        with lock:
            busy.pop()

    specs = [RunSpec(str(number), call=work, pools=["p"]) for number in range(50)]
    with ThreadPoolExecutor(8) as executor:
        assert Runner(service, pools={"p": 2}).run_all(specs, executor=executor).success
    assert most <= 2


def test_what_does_not_pickle_fails_alone(service: Service, processes: Executor) -> None:
    specs = [RunSpec("local", call=lambda: 1), RunSpec("fine", call=int)]
    result = Runner(service).run_all(specs, executor=processes)
    assert result["local"].failed
    assert "pickle" in result["local"].reason
    assert result["fine"].passed


def test_a_worker_that_dies_fails_its_specs_and_no_more(service: Service) -> None:
    specs = [
        RunSpec("dies", call=partial(os._exit, 1)),
        RunSpec("later", "true", after=["dies"]),
        RunSpec("too late", "true", after=["may"]),
        RunSpec("may", call=partial(os._exit, 1), allow_failure=True),
    ]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        result = Runner(service).run_all(specs, executor=executor)
    assert result["dies"].failed
    assert result["later"].skipped
    assert result["too late"].failed  # the executor takes nothing more


def test_ctrl_c_ends_what_runs_here_and_takes_back_the_rest(
    service: Service, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"

    def interrupt() -> None:
        while not (pids.exists() and pids.read_text()):
            threading.Event().wait(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    specs = [
        RunSpec("long", "sh", ["-c", f"sleep 60 & echo $! > {pids}; wait"]),
        RunSpec("ctrl-c", call=interrupt),
        *(RunSpec(f"queued{number}", "sleep", ["60"]) for number in range(5)),
    ]
    with (
        ThreadPoolExecutor(2) as executor,
        pytest.raises(RunInterruptedError) as caught,
    ):
        Runner(service).run_all(specs, executor=executor)
    result = caught.value.result
    assert result["long"].exit_code == -signal.SIGTERM
    assert not any(one.passed for one in result.results if one.name != "ctrl-c")
    wait_gone(int(pids.read_text()))


class Elsewhere(Executor):
    """Begins everything, and ends nothing: as another machine may."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        self.futures.append(future)
        os.kill(os.getpid(), signal.SIGINT)
        return future


def test_ctrl_c_does_not_wait_for_what_cannot_be_ended(service: Service) -> None:
    executor = Elsewhere()
    with pytest.raises(RunInterruptedError) as caught:
        Runner(service).run_all([RunSpec("far", "sleep", ["60"])], executor=executor)
    assert "was abandoned" in caught.value.result["far"].reason
    executor.futures[0].set_result(None)  # too late, and harmless


def test_what_starts_after_its_run_was_ended_ends_at_once() -> None:
    key = "a run that is over"
    attempt.stop(key)
    outcome = attempt.attempt(RunSpec("late", "sleep", ["60"]), key)
    attempt.forget(key)
    assert outcome.exit_code == -signal.SIGTERM

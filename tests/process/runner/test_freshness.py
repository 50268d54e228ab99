"""What is up to date is not run: and nothing else."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.medium._local import LocalMedium
from core_infra.process import Cancellation, Durations, Freshness, Runner, RunSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core_infra.process import RunResult
    from core_infra.process._service import Service


@pytest.fixture
def run(service: Service, tmp_path: Path) -> Callable[..., RunResult]:
    """Runs ``cat src/* > out``, with other fields as given."""
    (tmp_path / "src" / "sub").mkdir(parents=True)
    (tmp_path / "src" / "a").write_text("a")

    def once(
        script: str = "cat src/a > out",
        *,
        force: bool = False,
        state: str = "state",
        **fields: Any,
    ) -> RunResult:
        freshness = Freshness(LocalMedium(), str(tmp_path / state), force=force)
        usual = {"inputs": ["src"], "outputs": ["out"], "dir": str(tmp_path)}
        spec = RunSpec("a", "sh", ["-c", script], **usual | fields)
        return Runner(service, freshness=freshness).run_all([spec])["a"]

    return once


def test_what_is_up_to_date_passes_without_being_run(run: Callable[..., RunResult]) -> None:
    first, second = run(), run()
    assert first.passed
    assert not first.cached
    assert second.passed
    assert second.cached
    assert second.attempts == 1
    assert not run(force=True).cached
    assert run().cached


@pytest.mark.parametrize(
    "change",
    [
        lambda here: (here / "src" / "a").write_text("b"),
        lambda here: (here / "src" / "sub" / "new").touch(),
        lambda here: (here / "src" / "a").chmod(0o755),
        lambda here: (here / "src" / "a").rename(here / "src" / "b").touch(),
        lambda here: (here / "out").unlink(),
        lambda here: (here / "out").write_text("changed"),
        lambda here: [path.write_text("{") for path in (here / "state").iterdir()],
        lambda here: [path.write_text("[" * 99999) for path in (here / "state").iterdir()],
        lambda here: [path.write_bytes(b"\xff\0") for path in (here / "state").iterdir()],
        lambda here: [path.unlink() for path in (here / "state").iterdir()],
    ],
)
def test_what_has_changed_is_run(
    run: Callable[..., RunResult], tmp_path: Path, change: Callable[[Path], object]
) -> None:
    run("cat src/* > out || true")
    change(tmp_path)
    assert not run("cat src/* > out || true").cached
    assert run("cat src/* > out || true").cached


def test_times_do_not_matter(run: Callable[..., RunResult], tmp_path: Path) -> None:
    run()
    os.utime(tmp_path / "src" / "a", (1, 1))
    os.utime(tmp_path / "out", (1, 1))
    assert run().cached


def test_another_command_or_environment_is_run(run: Callable[..., RunResult]) -> None:
    run()
    assert not run("cat src/a  > out").cached
    assert not run("cat src/a  > out", env={"A": "1"}).cached
    assert not run("cat src/a  > out", env={"A": "2"}).cached
    assert run("cat src/a  > out", env={"A": "2"}).cached


def test_what_has_failed_is_not_up_to_date(run: Callable[..., RunResult]) -> None:
    script = "echo >> out; test -e state-of-ours"
    assert run(script).failed
    assert run(script).failed
    retried = "test -e src/../ready || { touch ready; exit 1; }; touch out"
    assert run(retried, retries=1).attempts == 2
    assert run(retried, retries=1).cached


def test_what_fails_after_it_has_passed_is_forgotten(
    run: Callable[..., RunResult], tmp_path: Path
) -> None:
    script = "test ! -e src/bad && echo > out"
    run(script)
    (tmp_path / "src" / "bad").touch()
    assert run(script).failed
    (tmp_path / "src" / "bad").unlink()
    assert not run(script).cached


def test_an_output_that_is_never_made(run: Callable[..., RunResult]) -> None:
    assert run("true", outputs=["nothing", "here*"]).passed
    assert not run("true", outputs=["nothing", "here*"]).cached


def test_outputs_or_inputs_alone_will_do(run: Callable[..., RunResult], tmp_path: Path) -> None:
    cases: list[dict[str, Any]] = [
        {"inputs": []},
        {"outputs": []},
        {"inputs": ["src/**/*", "gone/*"]},
    ]
    for fields in cases:
        assert not run(**fields).cached
        assert run(**fields).cached
    os.mkfifo(tmp_path / "src" / "fifo")
    (tmp_path / "src" / "link").symlink_to("nowhere")
    assert not run().cached
    assert run().cached


@pytest.mark.parametrize("pattern", [".", "**/*", "**"])
def test_a_pattern_for_all_means_no_bookkeeping_and_nothing_made(
    run: Callable[..., RunResult], tmp_path: Path, pattern: str
) -> None:
    for name in (".git", ".core/cache", "src/__pycache__"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text("before")
    fields: dict[str, Any] = {"inputs": [pattern, ".git/named"], "state": ".core/cache/tasks"}
    assert not run(**fields).cached
    for name in (".git", ".core/cache", "src/__pycache__"):
        (tmp_path / name / "file").write_text("after")
    assert run(**fields).cached
    (tmp_path / ".git" / "named").touch()
    assert not run(**fields).cached


def test_what_was_interrupted_is_not_up_to_date(service: Service, tmp_path: Path) -> None:
    freshness = Freshness(LocalMedium(), str(tmp_path / "state"))
    cancel = Cancellation()
    ready = tmp_path / "ready"
    script = f"trap 'exit 0' TERM; touch {ready}; while :; do sleep 0.01; done"

    def stop() -> None:
        while not ready.exists():
            threading.Event().wait(0.01)
        cancel.cancel()

    specs = [
        RunSpec("a", "sh", ["-c", script], outputs=["ready"], dir=str(tmp_path)),
        RunSpec("cancel", call=stop),
    ]
    result = Runner(service, workers=2, freshness=freshness).run_all(specs, cancel=cancel)
    assert result["a"].passed
    assert not (tmp_path / "state").exists() or not [*(tmp_path / "state").iterdir()]


def test_on_an_executor_and_with_durations(service: Service, tmp_path: Path) -> None:
    medium = LocalMedium()
    durations = Durations(medium, str(tmp_path / "durations.json"))
    freshness = Freshness(medium, str(tmp_path / "state"))
    runner = Runner(service, freshness=freshness, durations=durations)
    specs = [
        RunSpec("make", "touch", ["out"], outputs=["out"], dir=str(tmp_path)),
        RunSpec("after", "true", after=["make"]),
    ]
    with ThreadPoolExecutor(2) as executor:
        assert not runner.run_all(specs, executor=executor)["make"].cached
        known = durations.load()["make"]
        result = runner.run_all(specs, executor=executor)
    assert result["make"].cached
    assert not result["after"].cached
    assert durations.load()["make"] == known


def test_a_runner_without_memory_runs_all(service: Service, tmp_path: Path) -> None:
    spec = RunSpec("make", "touch", ["out"], outputs=["out"], dir=str(tmp_path))
    for _ in range(2):
        assert not Runner(service).run_all([spec])["make"].cached

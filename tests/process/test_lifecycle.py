"""Signals: their handlers may come in anywhere, use the service, and raise whatever they like."""

from __future__ import annotations

import pytest

from process_programs import output_of


@pytest.mark.parametrize("kind", ["BaseException", "Exception", "KeyboardInterrupt"])
def test_runs_that_are_interrupted_at_any_moment_leave_nothing(kind: str) -> None:
    assert output_of("interrupted_runs", kind) == "True right\n True\n[] []\n"


@pytest.mark.parametrize(
    ("action", "seconds", "output"),
    [
        ("shutdown", "600", "None\nRunFailedError\n[]\n"),
        ("kill", "600", "None\nRunFailedError\n[]\n"),
        ("wait", "1", "0\nout\n\n[]\n"),
        ("run", "1", "within\n\nout\n\n[]\n"),
    ],
)
def test_a_handler_may_do_anything_with_what_its_thread_waits_for(
    action: str, seconds: str, output: str
) -> None:
    assert output_of("handler_during_run", action, seconds) == output


def test_a_handler_may_run_programs_at_any_moment() -> None:
    assert output_of("nested_runs") == "True []\n"


def test_an_interrupted_start_says_so_and_leaves_nothing() -> None:
    assert output_of("interrupted_starts") == "[] [] []\nTrue True\n0\n"


@pytest.mark.long
@pytest.mark.parametrize(
    ("handler", "code"),
    [
        ("shutdown", "start_and_kill"),
        ("run", "start_and_kill"),
        ("shutdown", "send_and_read"),
        ("shutdown", "wait_and_look"),
        ("kill_all", "start_and_shut_down"),
        ("shutdown", "signal_and_kill"),
        ("interrupt", "run"),
        ("interrupt", "shut_down"),
    ],
)
def test_no_line_is_a_bad_one_for_a_signal(handler: str, code: str) -> None:
    assert output_of("signal_at_each_line", handler, code) == "True []\n"

"""The cost of a message on the bus, compared with a bare call, blinker and pluggy.

Run: python benchmarks/bus.py [--json FILE] [--rounds N]     (needs blinker and pluggy)

All take short turns, many times, so that load affects all equally; the time is this thread's CPU
time. The handlers do nothing: the benchmark measures the dispatch.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from operator import truediv
from typing import Any, Protocol, cast

import blinker
import pluggy

from core_infra.framework import Core, with_name

TURN = 5_000
"""Calls in one turn: a millisecond or so."""

hookspec = pluggy.HookspecMarker("bus")
hookimpl = pluggy.HookimplMarker("bus")


@dataclass(frozen=True)
class Message:
    """Something has happened."""

    name: str


class Spec:
    """What pluggy wants to know about a hook."""

    @hookspec
    def on_message(self, message: Message) -> None:
        """Hear of a message."""


class Hooks(Protocol):
    """What pluggy makes of the specification."""

    def on_message(self, *, message: Message) -> object:
        """Call all hooks."""


class Plugin:
    """A handler for pluggy."""

    @hookimpl
    def on_message(self, message: Message) -> None:
        """Do nothing."""


class Listener:
    """Where the handlers are; methods, as in most services."""

    def __init__(self, core: object = None) -> None:
        self.core = core

    def on_message(self, message: Message) -> None:
        """Do nothing."""

    def on_signal(self, sender: Message) -> None:
        """Do nothing, for blinker."""

    def answer(self, message: Message) -> str:
        """Answer."""
        return message.name


Loop = Callable[[int], float]


def bare(count: int) -> float:
    """Call a handler as Python does."""
    handler, message = Listener().on_message, Message("x")
    start = time.thread_time()
    for _ in range(count):
        handler(message)
    return time.thread_time() - start


def ours(handlers: int, kind: type[Any] = object) -> Loop:
    """Send an action to some handlers."""
    core, message = Core(), Message("x")
    for _ in range(handlers):
        core.register_action(Listener().on_message, kind)

    def loop(count: int) -> float:
        start = time.thread_time()
        for _ in range(count):
            core.action(message)
        return time.thread_time() - start

    return loop


def our_query(count: int) -> float:
    """Ask, and get an answer."""
    core, message = Core(with_name("listener", Listener)), Message("x")
    core.register_query(Listener().answer, Message)
    start = time.thread_time()
    for _ in range(count):
        core.query(message)
    return time.thread_time() - start


def by_blinker(handlers: int) -> Loop:
    """Send a blinker signal to some handlers."""
    signal, message = blinker.Signal(), Message("x")
    listeners = [Listener() for _ in range(handlers)]
    for listener in listeners:
        signal.connect(listener.on_signal)

    def loop(count: int) -> float:
        assert len(listeners) == handlers  # the signal's references are weak
        start = time.thread_time()
        for _ in range(count):
            signal.send(message)
        return time.thread_time() - start

    return loop


def by_pluggy(handlers: int) -> Loop:
    """Call a pluggy hook with some implementations."""
    manager, message = pluggy.PluginManager("bus"), Message("x")
    manager.add_hookspecs(Spec)
    for _ in range(handlers):
        manager.register(Plugin())
    hook = cast("Hooks", manager.hook)

    def loop(count: int) -> float:
        start = time.thread_time()
        for _ in range(count):
            hook.on_message(message=message)
        return time.thread_time() - start

    return loop


CASES: dict[str, Loop] = {
    "a bare call": bare,
    "action to 1 handler": ours(1),
    "action to 1 handler by type": ours(1, Message),
    "query with 1 handler by type": our_query,
    "  blinker to 1": by_blinker(1),
    "  pluggy to 1": by_pluggy(1),
    "action to 10 handlers": ours(10),
    "  blinker to 10": by_blinker(10),
    "  pluggy to 10": by_pluggy(10),
}


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """For each case: median and best of M calls/s, and how many bare calls one takes (median)."""
    rates: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name, loop in CASES.items():
            rates[name].append(TURN / loop(TURN) / 1e6)
    bare_rates = next(iter(rates.values()))
    return {
        name: {
            "median": statistics.median(found),
            "best": max(found),
            "bare_calls": statistics.median(map(truediv, bare_rates, found)),
        }
        for name, found in rates.items()
    }


def main() -> None:
    """Measure, print a table, and write JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    results = measure(options.rounds)
    print(f"{'M calls/s':<32}{'median':>8}{'best':>8}{'= bare calls':>14}")
    for name, found in results.items():
        print(f"{name:<32}{found['median']:>8.2f}{found['best']:>8.2f}{found['bare_calls']:>14.1f}")
    if options.json:
        with open(options.json, "w") as file:  # noqa: PTH123 - a path from the command line
            json.dump({name.strip(): found for name, found in results.items()}, file, indent=2)


if __name__ == "__main__":
    main()

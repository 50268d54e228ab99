"""Networks and clusters, each in turns with what they are compared with.

Run: python benchmarks/networks.py [--json FILE] [--rounds N]

- a machine with a network that it does not use, against one without;
- a copy of a cluster of three machines until all have answered, against one clone, and against
  podman, which starts three containers of busybox on one network, all at once (skipped with a
  message if podman or runc is not installed);
- TCP throughput and ping between two machines through the switch, against two machines whose QEMU
  processes are connected with each other (``-netdev dgram``), without a switch.
"""

import argparse
import functools
import json
import os
import re
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

from containers import podman

from core_infra.vm import Cluster, Launcher, Machine, Network, PreparedCluster
from core_infra.vm._vmm_sockets import SocketPairs

NAMES = [f"bench-{name}" for name in "abc"]
PODMAN = "podman: three containers"
MEGABYTES = 16
SEND = f"dd if=/dev/zero bs=65536 count={MEGABYTES * 16} 2>/dev/null | nc -l -p 5000"
RECEIVE = "exec 3<>/tmp/silent; nc {} 5000 <&3 | wc -c"


def first_output(launcher: Launcher, *networks: Network) -> float:
    """Seconds until a fresh machine has run a command."""
    start = time.perf_counter()
    machine = launcher.clone(networks=networks)
    machine.exec("echo hi", check=True)
    taken = time.perf_counter() - start
    launcher.discard(machine)
    return taken


def cluster_answers(prepared: PreparedCluster) -> float:
    """Seconds until all machines of a copy have run a command."""
    start = time.perf_counter()
    cluster = prepared.copy()
    for machine in cluster:
        machine.exec("echo hi", check=True)
    taken = time.perf_counter() - start
    cluster.stop()
    return taken


def three_machines(cluster: Cluster) -> None:
    cluster.add_network()
    for name in NAMES:
        cluster.add_machine(name)


class Crossed(SocketPairs):
    """The sockets of two machines: what one sends, the other receives, without a switch."""

    waiting: list[object] = []  # noqa: RUF012 - shared by both on purpose

    def __init__(self, cards: int) -> None:
        super().__init__(cards)
        if not cards:
            return
        if self.waiting:
            self._theirs["card0"].close()
            self._theirs["card0"] = self.waiting.pop()  # type: ignore[assignment] # a socket
        else:
            # Its other end becomes the second machine's; the switch gets one that is not connected.
            self.waiting.append(self.ours["card0"])
            self.ours["card0"] = self.ours["card0"].__class__(
                self.ours["card0"].family, self.ours["card0"].type
            )


@contextmanager
def two_machines(launcher: Launcher, *, switched: bool) -> Iterator[tuple[Machine, Machine]]:
    """Two machines on a network."""
    net = launcher.network()
    names = ("a", "b") if switched else ("direct-a", "direct-b")
    if switched:
        machines = [launcher.clone(name=name, networks=[net]) for name in names]
    else:
        with mock.patch("core_infra.vm._vmm_launch.SocketPairs", Crossed):
            machines = [launcher.clone(name=name, networks=[net]) for name in names]
    machines[1].exec("mkfifo /tmp/silent", check=True)
    yield machines[0], machines[1]
    for machine in machines:
        launcher.discard(machine)
    net.close()


def throughput(sender: Machine, receiver: Machine) -> float:
    """MB per second."""
    with sender.stream(SEND):
        sender.wait_for_port(5000)
        result = receiver.exec(RECEIVE.format(sender.name), timeout=120, check=True)
    assert int(result.stdout) == MEGABYTES << 20, result
    return (MEGABYTES << 20) / 1e6 / result.duration


def ping(a: Machine, b: Machine) -> float:
    """Milliseconds, the median of some."""
    text = a.exec(f"ping -c 20 -i 0.02 {b.name}", check=True).stdout
    return statistics.median(float(ms) for ms in re.findall(r"time=([\d.]+)", text))


def measured(rounds: int) -> dict[str, float]:
    """All figures: medians, and their ratios."""
    with ExitStack() as stack:
        launcher = stack.enter_context(Launcher(accelerator="tcg", ready=0))
        net = launcher.network()
        prepared = launcher.prepare_cluster(three_machines)
        kinds: dict[str, Callable[[], float]] = {
            "a clone": lambda: first_output(launcher),
            "a clone with a network": lambda: first_output(launcher, net),
            "a cluster of three": lambda: cluster_answers(prepared),
        }
        peer = stack.enter_context(podman())
        if peer is not None:
            image = peer.busybox(launcher)
            shared = stack.enter_context(peer.network(f"bench{os.getpid()}"))
            kinds[PODMAN] = functools.partial(peer.run_together, image, NAMES, shared)
        times: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(rounds + 1):
            for name, run in kinds.items():
                times[name].append(run())
        figures = {name: statistics.median(values[1:]) for name, values in times.items()}
        with (
            two_machines(launcher, switched=True) as ours,
            two_machines(launcher, switched=False) as direct,
        ):
            for name, use in (("MB/s", throughput), ("ping ms", ping)):
                results: tuple[list[float], list[float]] = ([], [])
                for _ in range(max(3, rounds // 4)):
                    for values, pair in zip(results, (ours, direct), strict=True):
                        values.append(use(*pair))
                figures[name] = statistics.median(results[0])
                figures[f"{name} without a switch"] = statistics.median(results[1])
    clone, cluster = figures["a clone"], figures["a cluster of three"]
    if PODMAN in figures:
        figures["ratio: cluster of three / podman (goal 0.5)"] = cluster / figures[PODMAN]
    return figures | {
        "ratio: unused network (goal 1.03)": figures["a clone with a network"] / clone,
        "ratio: cluster of three (goal 3)": cluster / clone,
        "ratio: throughput (goal 0.7)": figures["MB/s"] / figures["MB/s without a switch"],
        "ratio: ping (goal 1.5)": figures["ping ms"] / figures["ping ms without a switch"],
    }


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures = measured(arguments.rounds)
    for name, value in figures.items():
        print(f"{name:44} {value:8.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()

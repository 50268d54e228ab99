"""The cost of a machine: a boot, a command, and transferred bytes.

Run: python benchmarks/machines.py [--json FILE] [--rounds N]

The peer for commands is the method of most tools: type the command on the serial console and wait
for the prompt. It runs on the same machine, in turns with ours, so that load affects both equally.
"""

import argparse
import functools
import json
import statistics
import time
from collections.abc import Callable

from core_infra.vm import Launcher, Machine

PROMPT = "core-infra:"


def seconds(work: Callable[[], object]) -> float:
    """How long *work* takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def by_console(machine: Machine, number: int) -> None:
    """Run a command as an expect script would; the number is in its output alone, not its echo."""
    console = machine.console
    console.sendline(f"echo answer $(({number} + 0))=$?")
    console.expect_exact(f"answer {number}=0")
    console.expect_exact(PROMPT)


def measure_commands(machine: Machine, rounds: int) -> dict[str, float]:
    """Medians in milliseconds, ours and the peer's in turns."""
    machine.console.expect_exact(PROMPT)
    machine.console.delaybeforesend = None
    ours, peer = [], []
    for number in range(1000, 1000 + rounds):
        ours.append(seconds(lambda: machine.exec("echo answer")))
        peer.append(seconds(functools.partial(by_console, machine, number)))
    argv = [seconds(lambda: machine.exec(["/bin/true"])) for _ in range(rounds)]
    read = [seconds(lambda: machine.read_text("/etc/passwd")) for _ in range(rounds)]
    return {
        "exec a shell line (ms)": statistics.median(ours) * 1000,
        "  the same typed on the console (ms)": statistics.median(peer) * 1000,
        "exec a program (ms)": statistics.median(argv) * 1000,
        "read a small file (ms)": statistics.median(read) * 1000,
    }


def measure_round_trips(machine: Machine, rounds: int) -> dict[str, float]:
    """Medians in milliseconds on a warm clone, in turns with a bare echo over the same channel."""
    agent = machine._lifecycle._process.agent
    true, echo = [], []
    for _ in range(rounds):
        true.append(seconds(lambda: machine.exec("true")))
        echo.append(seconds(lambda: agent.ping(5)))
    mine, least = statistics.median(true) * 1000, statistics.median(echo) * 1000
    return {"exec true on a clone (ms)": mine, "  a bare echo (ms)": least, "  ratio": mine / least}


def measure_bytes(machine: Machine) -> dict[str, float]:
    """MiB/s out of a command, and into and out of one."""
    out_of_one = seconds(lambda: machine.exec("head -c 1048576 /dev/zero", check=True))
    data = bytes(32 << 20)
    both = seconds(lambda: machine.exec("cat", input=data, check=True))
    machine.write_bytes("/tmp/big", data)
    out = seconds(lambda: machine.read_bytes("/tmp/big"))
    return {
        "1 MiB of output of a command (MiB/s)": 1 / out_of_one,
        "bytes out (MiB/s)": 32 / out,
        "bytes in and out again (MiB/s)": 32 / both,
    }


def main() -> None:
    """Measure, print a table, and write JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    results: dict[str, float] = {}
    with Launcher(progress=print) as launcher:
        print(f"accelerator: {launcher.accelerator.name} ({launcher.accelerator.reason})")
        boots, stops = [], []
        for _ in range(5):
            machine = launcher.boot()
            boots.append(machine.boot_seconds)
            stops.append(seconds(functools.partial(launcher.discard, machine)))
        results["boot to the first answer (s)"] = statistics.median(boots)
        results["stop (ms)"] = statistics.median(stops) * 1000
        with launcher.clone() as machine:
            measure_round_trips(machine, 10)
            results |= measure_round_trips(machine, options.rounds)
        with launcher.boot() as machine:
            results |= measure_commands(machine, options.rounds)
            results |= measure_bytes(machine)
    for name, value in results.items():
        print(f"{name:<42}{value:>10.2f}")
    if options.json:
        with open(options.json, "w") as file:  # noqa: PTH123 - a path from the command line
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()

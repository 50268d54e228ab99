"""The time from requesting a fresh machine to its first output, compared with peers.

Run: python benchmarks/clones.py [--json FILE] [--rounds N] [--machines N] [--idle N]

Peers, each in turns with ours so that load affects all equally:

- ``podman run --rm --network none IMAGE echo hi`` (with runc; its image
  is this host's own busybox);
- labgrid's QEMUDriver on the same kernel and initrd, by the serial console;
- our own cold boot.

A peer that is not installed is skipped, with a message.
"""

import argparse
import contextlib
import functools
import json
import shlex
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from containers import podman, seconds

from core_infra.vm import Launcher
from core_infra.vm._images.image import Image
from core_infra.vm._warm.client import cool

COMMAND = "echo hi"
MEMORY = 128
PROMPT = "core-infra:~# "


def use(launcher: Launcher) -> float:
    """Seconds from asking for a machine to its first output; ending it is not counted."""
    start = time.perf_counter()
    machine = launcher.clone()
    assert machine.exec(COMMAND).stdout == "hi\n"
    taken = time.perf_counter() - start
    launcher.discard(machine)
    return taken


def boot(launcher: Launcher) -> float:
    """The same for a machine that is booted."""
    start = time.perf_counter()
    machine = launcher.boot()
    assert machine.exec(COMMAND).stdout == "hi\n"
    taken = time.perf_counter() - start
    launcher.discard(machine)
    return taken


def labgrid(image: Image) -> Callable[[], float] | None:
    """What boots the same image with labgrid; None where it is not installed."""
    try:
        from labgrid import Environment, Target  # noqa: PLC0415 - an optional peer
        from labgrid.driver import QEMUDriver  # noqa: PLC0415
    except ImportError:
        print("labgrid is not installed: left out")
        return None
    config = Path(tempfile.mkdtemp(prefix="labgrid-")) / "config.yaml"
    qemu = shutil.which(f"qemu-system-{image.arch}")
    config.write_text(
        f"targets: {{}}\ntools: {{qemu: {qemu}}}\nimages: {{kernel: {image.kernel}}}\n"
    )

    def run() -> float:
        target = Target("machine", env=Environment(str(config)))
        driver = QEMUDriver(
            target,
            "qemu",
            qemu_bin="qemu",
            machine="q35",
            cpu="max",
            memory=f"{MEMORY}M",
            kernel="kernel",
            boot_args=image.cmdline,
            extra_args=f"-initrd {image.initrd}",
        )
        start = time.perf_counter()
        target.activate(driver)
        driver.on()
        driver.expect(PROMPT, timeout=300)
        driver.sendline("echo $((40+2))hi")
        driver.expect("42hi", timeout=300)
        taken = time.perf_counter() - start
        driver.off()
        return taken

    return run


def at_once(launcher: Launcher, count: int) -> tuple[float, float]:
    """Seconds until *count* machines asked for at once have all answered; MiB (PSS) of each."""
    with ThreadPoolExecutor(count) as pool:
        start = time.perf_counter()
        machines = list(pool.map(lambda _: launcher.clone(), range(count)))
        list(pool.map(lambda machine: machine.exec(COMMAND, check=True), machines))
        taken = time.perf_counter() - start
    memory = [psutil.Process(machine.pid).memory_full_info().pss for machine in machines]
    for machine in machines:
        launcher.discard(machine)
    return taken, statistics.median(memory) / (1 << 20)


def idle(launcher: Launcher, count: int, length: float = 20) -> dict[str, float]:
    """What *count* machines at once take, cost while nobody uses them, and how they answer."""
    start = time.perf_counter()
    machines = [launcher.clone() for _ in range(count)]
    alive = time.perf_counter() - start
    time.sleep(5)  # what the kernel does later after a start
    processes = [psutil.Process(machine.pid) for machine in machines]
    before = [_work(process) for process in processes]
    start = time.perf_counter()
    time.sleep(length)
    taken = time.perf_counter() - start
    work = [
        (now[0] - then[0], now[1] - then[1])
        for now, then in zip(map(_work, processes), before, strict=True)
    ]
    memory = sum(process.memory_full_info().pss for process in processes)
    answers = []
    for machine in machines:
        start = time.perf_counter()
        machine.exec("true", check=True)
        answers.append(time.perf_counter() - start)
    for machine in machines:
        launcher.discard(machine)
    return {
        f"{count} machines at once (s)": alive,
        "  memory of all (GiB, PSS)": memory / (1 << 30),
        "  idle (% of a processor, all)": 100 * sum(processor for processor, _ in work) / taken,
        "  wake-ups of each (per second)": statistics.mean(wakes for _, wakes in work) / taken,
        "  an answer (s, median)": statistics.median(answers),
        "  the slowest answer (s)": max(answers),
    }


def _work(process: psutil.Process) -> tuple[float, int]:
    """Seconds on processors, and how often a thread has waited."""
    tasks = list(Path(f"/proc/{process.pid}/task").iterdir())
    nanoseconds = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)
    waits = [
        int(line.split()[1])
        for task in tasks
        for line in (task / "status").read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches")
    ]
    return nanoseconds / 1e9, sum(waits)


def in_sequence(launcher: Launcher, count: int) -> dict[str, float]:
    """Machines one after another: the last ten beside the first ten, and what is left of them."""
    use(launcher)
    me = psutil.Process()
    before = (me.num_fds(), me.num_threads(), me.memory_info().rss, len(me.children()))
    taken = [use(launcher) for _ in range(count)]
    after = (me.num_fds(), me.num_threads(), me.memory_info().rss, len(me.children()))
    first, last = statistics.median(taken[:10]), statistics.median(taken[-10:])
    return {
        f"{count} machines one after another (s each)": statistics.mean(taken),
        "  the last ten / the first ten": last / first,
        "  descriptors more than before": after[0] - before[0],
        "  threads more than before": after[1] - before[1],
        "  processes more than before": after[3] - before[3],
        "  memory more than before (MiB)": (after[2] - before[2]) / (1 << 20),
        "  leaks": len(launcher.leaks()),
    }


SUITE = """
import pytest
@pytest.mark.parametrize("n", range({count}))
def test_machine(core_vm, n):
    assert core_vm.exec("echo hi").stdout == "hi\\n"
"""


def suite(count: int) -> float:
    """Seconds of a whole pytest run of tests with a machine each."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "test_suite.py").write_text(SUITE.format(count=count))
        options = ["--core-vm", f"--core-vm-memory={MEMORY}", "-q", "-p", "no:cacheprovider"]
        command = ["python", "-m", "pytest", *options, directory]
        return seconds(
            functools.partial(subprocess.run, command, check=True, stdout=subprocess.DEVNULL)
        )


ONE = "def test_one(core_vm): core_vm.exec('true', check=True)"
EMPTY = "def test_one(): pass"


def loop(count: int) -> dict[str, float]:
    """Seconds of a whole pytest run of one test, in turns: of a developer who edits and tests."""
    vm = ["--core-vm", f"--core-vm-memory={MEMORY}"]
    runs = {
        "pytest of an empty test (s)": (EMPTY, []),
        "  of a test with a machine": (ONE, vm),
        "  the same with --core-vm-warm": (ONE, [*vm, "--core-vm-warm=1"]),
    }
    taken: dict[str, list[float]] = {name: [] for name in runs}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "test_one.py")
        for _ in range(count + 1):  # the first run makes the template, and does not count
            for name, (text, options) in runs.items():
                path.write_text(text)
                command = ["python", "-m", "pytest", *options, "-q", "-p", "no:cacheprovider", path]
                run = functools.partial(subprocess.run, command, check=True, capture_output=True)
                taken[name].append(seconds(run))
    cool()
    return {name: statistics.median(values[1:]) for name, values in taken.items()}


def rounds(peers: dict[str, Callable[[], float]], count: int) -> dict[str, float]:
    """The median of each peer, in turns."""
    taken: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(count):
        for name, run in peers.items():
            taken[name].append(run())
            time.sleep(0.2)  # lets the pool make its next one: that is what it is for
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> None:
    """Measure, print a table, and write JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--machines", type=int, default=200, help="one after another")
    parser.add_argument("--idle", type=int, default=100, help="at the same time")
    options = parser.parse_args()
    results: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        asked = stack.enter_context(Launcher(memory=MEMORY, ready=0, progress=print))
        pooled = stack.enter_context(Launcher(memory=MEMORY, ready=1, image=asked.image))
        print(f"accelerator: {asked.accelerator.name} ({asked.accelerator.reason})")
        use(asked)
        use(pooled)
        peer = stack.enter_context(podman())
        peers: dict[str, Callable[[], float]] = {
            "a clone, from asking to its first output": functools.partial(use, asked),
            "the same from a warm pool": functools.partial(use, pooled),
        }
        if peer is not None:
            busybox = peer.busybox(asked)
            peers["podman run"] = functools.partial(peer.run, busybox, *shlex.split(COMMAND))
        results |= rounds(peers, options.rounds)
        slow: dict[str, Callable[[], float]] = {"cold boot": functools.partial(boot, asked)}
        image = asked.image
        if isinstance(image, Image) and (booted := labgrid(image)) is not None:
            slow["labgrid QEMUDriver"] = booted
        results |= rounds(slow, max(3, options.rounds // 5))
        pooled.close()
        results["eight at once (s)"], results["  memory of each (MiB, PSS)"] = at_once(asked, 8)
        results |= idle(asked, options.idle)
        results |= in_sequence(asked, options.machines)
        results["a suite of 100 tests with a machine each (s)"] = suite(100)
    results |= loop(max(5, options.rounds // 2))
    mine = results["a clone, from asking to its first output"]
    for name in ("podman run", "cold boot", "labgrid QEMUDriver"):
        if name in results:
            results[f"a clone / {name}"] = mine / results[name]
    if "podman run" in results:
        warm = results["the same from a warm pool"]
        results["a clone from a warm pool / podman run"] = warm / results["podman run"]
    for name, value in results.items():
        print(f"{name:<46}{value:>10.3f}")
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()

"""Machines of OCI images, compared with the default image's and with podman.

Run: python benchmarks/images.py oci-layout:DIRECTORY:NAME [--json FILE] [--rounds N]

All are measured in turns, so that load affects all equally:

- a clone of the default image's machine, from requesting it to its first output;
- the same of the OCI image's machine;
- ``podman run --rm --network none IMAGE echo hi`` (Debian's podman and runc, vfs storage).

First: making the machine's disk from the layers, and what a machine takes of the host's memory.
"""

import argparse
import contextlib
import functools
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from core_infra.vm import Launcher, load_image

COMMAND = ["echo", "hi"]


def use(launcher: Launcher) -> float:
    """Seconds from requesting a machine to its first output; ending it is not counted."""
    start = time.perf_counter()
    machine = launcher.clone()
    assert machine.exec(COMMAND).stdout == "hi\n"
    taken = time.perf_counter() - start
    launcher.discard(machine)
    return taken


def memory(launcher: Launcher, count: int = 8) -> float:
    """MiB (PSS) of each of several idle machines."""
    machines = [launcher.clone() for _ in range(count)]
    for machine in machines:
        machine.exec(COMMAND, check=True)
    found = [psutil.Process(machine.pid).memory_full_info().pss for machine in machines]
    for machine in machines:
        launcher.discard(machine)
    return statistics.median(found) / (1 << 20)


@contextlib.contextmanager
def podman(address: str) -> Iterator[Callable[[], float] | None]:
    """Run a container of the same image; None if podman is not installed."""
    if not (shutil.which("podman") and shutil.which("runc")):
        print("no podman and runc on PATH: left out")
        yield None
        return
    root = Path(tempfile.mkdtemp(prefix="podman-"))
    base = [
        *("podman", "--root", f"{root}/root", "--runroot", f"{root}/run"),
        *("--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"),
        *("--runtime", "runc"),
    ]
    try:
        source = address.replace("oci-layout:", "oci:")
        start = time.perf_counter()
        pull = [*base, "pull", "-q", source]
        image = subprocess.run(pull, check=True, capture_output=True, text=True).stdout.strip()
        print(f"podman pull: {time.perf_counter() - start:.1f} s")
        limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
        run = [*base, "run", "--rm", *limits, "--network", "none", "--entrypoint", "echo"]

        def once() -> float:
            start = time.perf_counter()
            subprocess.run([*run, image, "hi"], check=True, stdout=subprocess.DEVNULL)
            return time.perf_counter() - start

        yield once
    finally:
        shutil.rmtree(root, ignore_errors=True)


def main() -> None:
    """Measure, print a table, and write JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", help="oci-layout:DIRECTORY:NAME")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    results: dict[str, float] = {}
    start = time.perf_counter()
    image = load_image(options.image, progress=print)
    results["the disk, found or made (s)"] = time.perf_counter() - start
    with contextlib.ExitStack() as stack:
        default = stack.enter_context(Launcher(memory=image.memory, ready=0, progress=print))
        own = stack.enter_context(Launcher(image=image, ready=0, progress=print))
        container = stack.enter_context(podman(options.image))
        peers: dict[str, Callable[[], float]] = {
            "a clone of the default image (s)": functools.partial(use, default),
            "a clone of the OCI image (s)": functools.partial(use, own),
        }
        if container is not None:
            peers["podman run (s)"] = container
        for run in peers.values():
            run()
        taken: dict[str, list[float]] = {name: [] for name in peers}
        for _ in range(options.rounds):
            for name, run in peers.items():
                taken[name].append(run())
        results |= {name: statistics.median(values) for name, values in taken.items()}
        results["memory of a machine (MiB, PSS)"] = memory(own)
    mine = results["a clone of the OCI image (s)"]
    results["an OCI clone / a default clone"] = mine / results["a clone of the default image (s)"]
    if "podman run (s)" in results:
        results["an OCI clone / podman run"] = mine / results["podman run (s)"]
    for name, value in results.items():
        print(f"{name:<46}{value:>10.3f}")
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()

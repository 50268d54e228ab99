"""Machines of OCI images, compared with the default image's and with podman.

Run: python benchmarks/images.py IMAGE [--json FILE] [--rounds N]

IMAGE is oci-layout:DIRECTORY:NAME, oci-archive:FILE or oci:REFERENCE.

All are measured in turns, so that load affects all equally:

- a clone of the default image's machine, from requesting it to its first output;
- the same of the OCI image's machine;
- ``podman run --rm --network none IMAGE echo hi`` (with runc).

Also: the first use of the image on a host that has the default image, from pulling it to the first
output, compared with ``podman pull`` and ``podman run``; and the memory of a machine on the host.
"""

import argparse
import contextlib
import functools
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from containers import Podman, podman, seconds

from core_infra.vm import Image, Launcher, load_image

COMMAND = ["echo", "hi"]
TRANSPORTS = {"oci-layout:": "oci:", "oci-archive:": "oci-archive:", "oci:": "docker://"}


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
def new_cache(*images: Image) -> Iterator[None]:
    """A cache that has only these images."""
    before = os.environ.get("CORE_INFRA_CACHE_DIR")
    with tempfile.TemporaryDirectory(prefix="cache-", dir=images[0].kernel.parents[2]) as directory:
        for image in images:
            shutil.copytree(
                image.kernel.parent, Path(directory, "images", image.kernel.parent.name)
            )
        os.environ["CORE_INFRA_CACHE_DIR"] = directory
        try:
            yield
        finally:
            os.environ.pop("CORE_INFRA_CACHE_DIR")
            if before is not None:
                os.environ["CORE_INFRA_CACHE_DIR"] = before


def first_use(address: str, default: Image) -> float:
    """Seconds from pulling the image to the first output of a machine, which is booted."""

    def run() -> None:
        with Launcher(image=load_image(address), ready=0) as launcher:
            assert launcher.boot().exec(COMMAND).stdout == "hi\n"

    with new_cache(default):
        return seconds(run)


def first_run(peer: Podman, source: str) -> float:
    """The same of a container."""

    def run() -> None:
        peer.run(peer.pull(source), *COMMAND)

    return seconds(run)


def source_of(address: str) -> str:
    """The image's name for podman."""
    scheme = next(scheme for scheme in TRANSPORTS if address.startswith(scheme))
    return TRANSPORTS[scheme] + address.removeprefix(scheme)


def main() -> None:
    """Measure, print a table, and write JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", help="oci-layout:DIRECTORY:NAME, oci-archive:FILE, oci:REFERENCE")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    results: dict[str, float] = {}
    image = load_image(options.image, progress=print)
    with contextlib.ExitStack() as stack:
        default = stack.enter_context(Launcher(memory=image.memory, ready=0, progress=print))
        own = stack.enter_context(Launcher(image=image, ready=0, progress=print))
        peer = stack.enter_context(podman())
        assert isinstance(default.image, Image)
        results["first use (s)"] = first_use(options.image, default.image)
        peers: dict[str, Callable[[], float]] = {
            "a clone of the default image (s)": functools.partial(use, default),
            "a clone of the OCI image (s)": functools.partial(use, own),
        }
        if peer is not None:
            source = source_of(options.image)
            results["podman pull + run (s)"] = first_run(peer, source)
            peers["podman run (s)"] = functools.partial(peer.run, peer.pull(source), *COMMAND)
        results["one boot (s)"] = seconds(default.boot)
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
        first = results["first use (s)"] - results["one boot (s)"]
        results["(first use - one boot) / podman"] = first / results["podman pull + run (s)"]
    for name, value in results.items():
        print(f"{name:<46}{value:>10.3f}")
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()

"""The cost of archives and checksums, compared with the standard library, gzip, pigz, xz, openssl.

Run: python benchmarks/archive.py [--json FILE] [--rounds N] [--size MB] [--xz-size MB] [--memory]

The corpus is this host's programs, shared libraries and Python files in a random but fixed order.
All take turns in each round, so that load affects all equally. The table has the medians of the
rounds, and the speed of each as a multiple of the first one in its group: by wall time, and by CPU
time, which a busy host does not distort and which does not reward a second core. Ours hash input
and output and flush it to the disk; the peers only compress. --memory also packs an artifact of
2 GiB and reports the peak memory. Peers that are not installed are skipped.
Needs: pip install core-infra[build]
"""

import argparse
import gzip
import hashlib
import json
import lzma
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from core_infra.build._archives.archive import archive_with_format
from core_infra.build._artifact import Artifact
from core_infra.build._documents.checksums import checksum
from core_infra.medium import LocalMedium

PLACES = ("/usr/bin", "/usr/lib", sys.prefix)
ENDINGS = (".py", ".so", "")
CHUNK = 1 << 20
Work = Callable[[], Path | None]

MEASURE = """
import resource, sys
from core_infra.build._archives.archive import archive_with_format
from core_infra.build._artifact import Artifact
from core_infra.medium import LocalMedium
made = archive_with_format(LocalMedium(), Artifact(sys.argv[1]), sys.argv[2], profile=sys.argv[3])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def make_corpus(path: Path, size: int) -> None:
    """Put together files of this host until there is enough."""
    found = [
        Path(directory, name)
        for place in PLACES
        for directory, _, names in os.walk(place)
        for name in names
        if Path(name).suffix in ENDINGS or ".so." in name
    ]
    random.Random(1).shuffle(found)  # noqa: S311 - no secret
    with path.open("wb") as corpus:
        for file in found:
            if file.is_file() and not file.is_symlink():
                corpus.write(file.read_bytes())
            if corpus.tell() >= size:
                corpus.truncate(size)
                return
    sys.exit(f"this host has only {path.stat().st_size >> 20} MB of programs: choose a --size")


def ours(source: Path, form: str, profile: str = "default", threads: int | None = None) -> Work:
    """An archive by this library."""
    medium = LocalMedium()

    def work() -> Path:
        made = archive_with_format(
            medium, Artifact(str(source)), form, profile=profile, threads=threads
        )
        return Path(made.path)

    return work


def stdlib_gzip(source: Path) -> Path:
    """What most build scripts do."""
    target = source.with_suffix(".gz")
    with source.open("rb") as file, gzip.open(target, "wb", 6) as out:
        shutil.copyfileobj(file, out, CHUNK)
    return target


def stdlib_xz(source: Path) -> Path:
    """Lzma on one core."""
    target = source.with_suffix(".xz")
    with source.open("rb") as file, lzma.open(target, "wb", preset=6) as out:
        shutil.copyfileobj(file, out, CHUNK)
    return target


def stdlib_zip(source: Path) -> Path:
    """Zipfile on one core."""
    target = source.with_suffix(".zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
        out.write(source, source.name)
    return target


def program(source: Path, *command: str, ending: str = "") -> Work | None:
    """Another program: what it prints is the archive if there is an ending."""
    if shutil.which(command[0]) is None:
        return None
    target = source.with_suffix(ending) if ending else Path(os.devnull)

    def work() -> Path | None:
        with target.open("wb") as out:
            subprocess.run([*command, str(source)], stdout=out, check=True)
        return target if ending else None

    return work


def groups(corpus: Path, part: Path) -> dict[str, tuple[Path, dict[str, Work | None]]]:
    """What competes with what; the first of each group is what the others are multiples of."""
    medium = LocalMedium()

    def hashed() -> Path | None:
        with corpus.open("rb") as file:
            hashlib.file_digest(file, "sha256")
        return None

    def our_checksum() -> Path | None:
        checksum(medium, Artifact(str(corpus)))
        return None

    packed: dict[str, Work | None] = {
        "gzip (stdlib, -6)": lambda: stdlib_gzip(corpus),
        "gzip -6": program(corpus, "gzip", "-6", "-c", ending=".gz"),
        "pigz -6": program(corpus, "pigz", "-6", "-c", ending=".gz"),
        "ours, default": ours(corpus, "gz"),
        "ours, default, 1 thread": ours(corpus, "gz", threads=1),
        "ours, fast": ours(corpus, "gz", "fast"),
    }
    zipped: dict[str, Work | None] = {
        "zipfile (stdlib)": lambda: stdlib_zip(corpus),
        "ours, default": ours(corpus, "zip"),
        "ours, fast": ours(corpus, "zip", "fast"),
    }
    small: dict[str, Work | None] = {
        "lzma (stdlib, -6)": lambda: stdlib_xz(part),
        "xz -6 -T1": program(part, "xz", "-6", "-T1", "-c", ending=".xz"),
        "xz -6 -T0": program(part, "xz", "-6", "-T0", "-c", ending=".xz"),
        "ours": ours(part, "xz"),
        "ours, 1 thread": ours(part, "xz", threads=1),
    }
    hashing: dict[str, Work | None] = {
        "openssl dgst -sha256": program(corpus, "openssl", "dgst", "-sha256"),
        "hashlib (stdlib)": hashed,
        "sha256sum": program(corpus, "sha256sum"),
        "ours": our_checksum,
    }
    return {
        "tar.gz": (corpus, packed),
        "zip": (corpus, zipped),
        "tar.xz": (part, small),
        "sha256": (corpus, hashing),
    }


class Measured(NamedTuple):
    """What one way of packing takes and gives.

    Attributes:
        speed: MB/s.
        cpu_speed: MB for each second of processor time, of all cores and children.
        ratio: how many times smaller the result is; 0 if there is none.
    """

    speed: float
    cpu_speed: float
    ratio: float


def measure(work: Work, source: Path) -> Measured:
    """Do it once."""
    cpu, start = sum(os.times()[:4]), time.perf_counter()
    made = work()
    seconds, cpu = time.perf_counter() - start, sum(os.times()[:4]) - cpu
    size = source.stat().st_size
    ratio = size / made.stat().st_size if made else 0.0
    if made:
        made.unlink()
    return Measured(size / seconds / 1e6, size / max(cpu, 0.01) / 1e6, ratio)


def peak_memory(directory: Path, corpus: Path) -> dict[str, float]:
    """MiB at most while an artifact of 2 GiB is packed."""
    large = directory / "large"
    with large.open("wb") as out:
        while out.tell() < 2 << 30:
            with corpus.open("rb") as file:
                shutil.copyfileobj(file, out, CHUNK)
    peaks = {}
    for form, profile in (("gz", "default"), ("gz", "fast"), ("zip", "default")):
        argv = [sys.executable, "-c", MEASURE, str(large), form, profile]
        ran = subprocess.run(argv, capture_output=True, text=True, check=True)
        peaks[f"{form}, {profile}"] = int(ran.stdout) / 1024
    return peaks


def main() -> None:
    """Measure, print a table, and write JSON if requested."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=128, help="MB")
    parser.add_argument("--xz-size", type=int, default=48, help="MB")
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    results: dict[str, dict[str, Measured]] = {}
    with tempfile.TemporaryDirectory(prefix="core-infra-bench-") as name:
        directory = Path(name)
        corpus, part = directory / "corpus", directory / "part"
        make_corpus(corpus, options.size * 10**6)
        part.write_bytes(corpus.read_bytes()[: options.xz_size * 10**6])
        for group, (source, works) in groups(corpus, part).items():
            there = {name: work for name, work in works.items() if work}
            rounds = [
                {name: measure(work, source) for name, work in there.items()}
                for _ in range(options.rounds)
            ]
            results[group] = {
                name: Measured(*map(statistics.median, zip(*taken, strict=True)))
                for name, taken in ((name, [one[name] for one in rounds]) for name in there)
            }
            show(group, results[group])
        memory = peak_memory(directory, corpus) if options.memory else {}
    for name, peak in memory.items():
        print(f"2 GiB as {name}: {peak:.0f} MiB of memory at most")
    if options.json:
        data = {"speeds": results, "memory": memory, "cpus": os.cpu_count()}
        options.json.write_text(json.dumps(data, indent=2) + "\n")


def show(group: str, results: dict[str, Measured]) -> None:
    """Print one group."""
    base = next(iter(results.values()))
    print(f"\n{group:26} {'MB/s':>8} {'x':>6} {'MB/cpu-s':>9} {'x':>6} {'ratio':>7} {'size':>7}")
    for name, one in results.items():
        by_clock = f"{one.speed:8.1f} {one.speed / base.speed:6.2f}"
        by_cpu = f"{one.cpu_speed:9.1f} {one.cpu_speed / base.cpu_speed:6.2f}"
        size = f"{one.ratio:7.3f} {base.ratio / one.ratio - 1:+7.1%}" if one.ratio else ""
        print(f"{name:26} {by_clock} {by_cpu} {size}")


if __name__ == "__main__":
    main()

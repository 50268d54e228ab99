"""Assembling a LinuxKit image, compared with packing the same bytes; and clones of its machine.

Run: python benchmarks/linuxkit.py [--mib N] [--rounds N] [--json FILE]

All are measured in turns, so that load affects all equally:

- assembling an image with N MiB of files, of an image that is on this host already;
- ``tar -C DIRECTORY -c . | gzip`` of the same files;
- a clone of the default image's machine, from requesting it to its first output;
- the same of a LinuxKit machine with a service.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from core_infra.vm import Launcher
from core_infra.vm._images.image import host_arch
from core_infra.vm._images.linuxkit.output import build_files

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from linuxkit_images import write_busybox
from oci_images import Entry, layer, write_layout

FILE = "kernel: {image: oci-layout:image}\ninit: [oci-layout:image]\n"
SERVICE = """\
services:
- {{name: web, image: {image}, command: [busybox, httpd, -f, -p, '8080', -h, /bin]}}
"""


def quiet(_line: str) -> None:
    pass


def sources(directory: Path, mib: int) -> list[Entry]:
    """Write files that pack about as well as programs do; return them as entries of a layer."""
    words = [random.Random(number).randbytes(12) for number in range(4096)]  # noqa: S311 - a seed
    chosen = random.Random(1)  # noqa: S311
    entries = [Entry("kernel", data=b"kernel")]
    for number in range(mib * 4):
        data = b"".join(chosen.choices(words, k=(256 << 10) // 12))
        (directory / f"file-{number}").write_bytes(data)
        entries.append(Entry(f"file-{number}", data=data))
    return entries


def assemble(directory: Path) -> float:
    start = time.perf_counter()
    build_files(
        [directory / "linuxkit.yml"],
        directory / "out",
        name="n",
        arch=host_arch(),
        formats=["kernel+initrd"],
        progress=quiet,
    )
    return time.perf_counter() - start


def pack(directory: Path) -> float:
    start = time.perf_counter()
    with Path(f"{directory}.tar.gz").open("wb") as target:
        tar = subprocess.Popen(["tar", "-C", directory, "-c", "."], stdout=subprocess.PIPE)
        subprocess.run(["gzip"], stdin=tar.stdout, stdout=target, check=True)
    assert tar.wait() == 0
    return time.perf_counter() - start


def clone(launcher: Launcher) -> float:
    start = time.perf_counter()
    machine = launcher.clone()
    assert machine.exec(["echo", "hi"]).stdout == "hi\n"
    taken = time.perf_counter() - start
    launcher.discard(machine)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, list[float]] = {
        "assemble": [],
        "tar | gzip": [],
        "default": [],
        "linuxkit": [],
    }
    with tempfile.TemporaryDirectory(prefix="linuxkit-") as work:
        files, project = Path(work, "files"), Path(work, "project")
        files.mkdir()
        write_layout(project / "image", [layer(sources(files, options.mib))])
        (project / "linuxkit.yml").write_text(FILE)
        image = write_busybox(project / "busybox")
        (project / "web.yml").write_text(SERVICE.format(image=image))
        with Launcher(memory=256) as default, Launcher(image=project / "web.yml") as own:
            clone(default)
            clone(own)
            for _ in range(options.rounds):
                found["assemble"].append(assemble(project))
                found["tar | gzip"].append(pack(files))
                found["default"].append(clone(default))
                found["linuxkit"].append(clone(own))
    medians = {name: statistics.median(values) for name, values in found.items()}
    for name, value in medians.items():
        print(f"{name:12} {value:8.3f} s")
    print(
        f"assemble / (tar | gzip): {medians['assemble'] / medians['tar | gzip']:.2f} (at most 1.5)"
    )
    print(f"linuxkit / default clone: {medians['linuxkit'] / medians['default']:.2f} (at most 1.2)")
    if options.json:
        options.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()

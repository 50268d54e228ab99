"""Configures packages that are unpacked in a tree: in a machine that boots it.

So a maintainer script never runs on this host. What the scripts changed goes back into the tree.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra._wording import count
from core_infra.errors import CommandFailedError
from core_infra.vm._images.disk.ext4 import write_ext4
from core_infra.vm._images.disk.image import FREE
from core_infra.vm._images.disk.tar_merge import TarMerger
from core_infra.vm._images.disk.tree import add_file, walk

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Callable

    from core_infra.vm._guest.guest import Guest
    from core_infra.vm._images.disk.image import DiskRecipe
    from core_infra.vm._images.disk.tree import Node
    from core_infra.vm._images.image import Image

    InMachine = Callable[[Image, Callable[[Guest], None]], None]
    """Boots an image, calls a function with the machine, and ends it."""

CONFIGURE = Path(__file__).with_name("configure")
"""The script that runs in the machine."""

_MEMORY = 1024  # MiB
_LIMIT = 3600.0
_SHOWN = 25
_MOUNTED = (b"/dev", b"/proc", b"/run", b"/sys", b"/tmp", b"/lost+found")
# dpkg's words, and those of our script for what dpkg --unpack would have run.
_FAILED = re.compile(
    r"^dpkg: error processing package (?P<package>\S+) .*\n"
    r" (?:old|new|installed) \S+ package (?P<script>\S+) script subprocess (?P<how>.+)",
    re.MULTILINE,
)
_STARTED = r"^(?:Preparing|Setting up|Processing triggers for) {}(?::\w+)? .*\n"


class Configuration:
    """Configures the packages of a tree.

    Args:
        recipe: what the image is made of.
        in_machine: boots an image, and calls a function with the machine.
        progress: called with a line of text before anything slow.
    """

    def __init__(
        self, recipe: DiskRecipe, in_machine: InMachine, progress: Callable[[str], None]
    ) -> None:
        self._recipe = recipe
        self._in_machine = in_machine
        self._progress = progress

    def apply(self, root: Node, work: Path) -> None:
        """Configure the packages of a tree, and change it as their scripts did.

        Args:
            root: the tree.
            work: a directory for files that the tree refers to afterwards.

        Raises:
            CommandFailedError: a maintainer script failed; names it, and shows its output.
        """
        time = newest(root)
        disk, initrd = work / "unconfigured.raw", work / "initrd"
        write_ext4(disk, root, free=FREE)
        scripts = self._recipe.scripts | {"configure": CONFIGURE.read_bytes()}
        initrd.write_bytes(replace(self._recipe, scripts=scripts).initrd())
        base, name = self._recipe.base, self._recipe.name
        image = replace(base, initrd=initrd, disk=disk, name=name, memory=_MEMORY)
        packages = count(len(self._recipe.packages), "package")
        self._progress(f"configuring {packages} in a machine")
        self._in_machine(image, lambda guest: self._run(guest, time, work))
        disk.unlink()
        _Changes(root, work / "changes.tar", time).apply()
        kept = set((work / "paths").read_bytes().split(b"\0"))
        _remove_others(root, {path.removeprefix(b".") for path in kept})
        # Else systemd would update each cache of /usr at the first boot: postinst scripts did that.
        for updated in ("etc/.updated", "var/.updated"):
            add_file(root, updated, b"", mtime=time)

    def _run(self, guest: Guest, time: int, work: Path) -> None:
        result = guest.exec(["/run/core-infra/configure", str(time)], timeout=_LIMIT)
        if result.exit_code:
            raise configuration_error(self._recipe.name, result.stdout, result.exit_code)
        for name, target in (("tar", "changes.tar"), ("paths", "paths")):
            guest.pull(f"/var/core-infra.{name}", work / target, timeout=_LIMIT)


class _Changes(TarMerger):
    """Files that a machine has changed, which are put on a tree.

    Args:
        root: the tree.
        path: their archive.
        latest: the time, in seconds since 1970, that all newer files get: equal changes then make
            equal trees.
    """

    def __init__(self, root: Node, path: Path, latest: int) -> None:
        super().__init__(root, path, "the archive of what the configuration has changed")
        self._latest = latest

    def describe(self, node: Node, entry: tarfile.TarInfo) -> None:
        """Give a node the owner, mode, time and attributes of an entry."""
        super().describe(node, entry)
        node.mtime = min(node.mtime, self._latest)


def configuration_error(name: str, output: str, exit_code: int) -> CommandFailedError:
    """The error of packages that cannot be configured.

    Args:
        name: what is made of them.
        output: what dpkg and the scripts printed.
        exit_code: dpkg's.
    """
    failed = _FAILED.search(output)
    if failed is None:
        what = "packages"
        why = "the last lines are:\n" + "\n".join(output.strip().splitlines()[-_SHOWN:])
    else:
        what = failed["package"]
        start = re.compile(_STARTED.format(re.escape(what)), re.MULTILINE)
        starts = [found.end() for found in start.finditer(output, 0, failed.start())]
        printed = output[starts[-1] if starts else 0 : failed.start()].strip().splitlines()
        lines = "\n".join(f"    {line}" for line in printed[-_SHOWN:])
        why = f"its {failed['script']} script {failed['how'].strip()}"
        why += f", and printed:\n{lines}" if lines else ", and printed nothing"
    return CommandFailedError(
        f"cannot configure {what} in {name}",
        why=why,
        command=["dpkg", "--configure", "-a"],
        exit_code=exit_code,
    )


def newest(root: Node) -> int:
    """The time of the newest file of a tree, in seconds since 1970: when it was made."""
    return max(node.mtime for _, node in walk(root))


def _remove_others(root: Node, kept: set[bytes]) -> None:
    """Remove what the configuration has removed. What is mounted in a machine is not listed."""
    removed: set[bytes] = set()
    for path, _ in list(walk(root)):
        parent, _, name = path.rpartition(b"/")
        if path and path not in kept and not path.startswith(_MOUNTED) and parent not in removed:
            removed.add(path)
            place = root
            for part in filter(None, parent.split(b"/")):
                place = place.entries[part]
            del place.entries[name]
        elif parent in removed:
            removed.add(path)

"""What a hypervisor promises the manager of machines, as tests for everybody's.

Subclass :class:`HypervisorContract` in a test module. Where the program cannot be on the host, put
one that stands in for it on PATH: it must write the console's log and its process id, and end at
SIGTERM, as the real one does.
"""

from __future__ import annotations

import contextlib
import signal
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from core_infra.errors import InvalidError
from core_infra.process._child import spawn
from core_infra.vm._attach import connect
from core_infra.vm._hypervisors.detect import get_hypervisor
from core_infra.vm._hypervisors.disposable import Disk
from core_infra.vm._hypervisors.hypervisor import CONSOLE_LOG, PID_FILE, PersistentSpec
from core_infra.vm._hypervisors.qmp import Qmp
from core_infra.vm._manager.machine_directory import MachineDirectory
from core_infra.vm._timeouts import scaled

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from core_infra.process._child import Child
    from core_infra.vm._hypervisors.hypervisor import HostedHypervisor
    from core_infra.vm._images.image import Image

_START = 5.0
_INTERVAL = 0.02


class HypervisorContract:
    """What every hypervisor does with a machine that is a kernel and an initrd.

    Attributes:
        accelerator: what its machines are run with.
        formats: of the disks that it reads.
        speaks: what the console has printed once a machine has begun to run.
    """

    accelerator = "tcg"
    formats: tuple[str, ...] = ("raw", "iso")
    speaks = b"Linux version"

    def make_hypervisor(self) -> HostedHypervisor:
        """Return the hypervisor under test, installed. To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} must have make_hypervisor()")

    def make_image(self) -> Image:
        """Return a kernel and an initrd that it can run. To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} must have make_image()")

    def test_it_is_known_by_its_name(self) -> None:
        hypervisor = self.make_hypervisor()
        _holds(type(get_hypervisor(hypervisor.name)) is type(hypervisor), "it must be registered")
        _holds(bool(hypervisor.version()), "it must tell its version")

    def test_the_same_machine_is_the_same_command(self) -> None:
        with self._spec() as spec:
            hypervisor = self.make_hypervisor()
            command = hypervisor.build(spec, self.accelerator)
            _holds(command == hypervisor.build(spec, self.accelerator), "it must be the same")
            _holds(Path(command[0]).is_absolute(), "the program must be told by its path")
            _holds(not (spec.directory / PID_FILE).exists(), "to build must start nothing")

    def test_a_machine_gets_what_it_is_made_of(self) -> None:
        with self._spec() as spec:
            hypervisor = self.make_hypervisor()
            small = hypervisor.build(spec, self.accelerator)
            large = hypervisor.build(replace(spec, memory=300, cpus=3), self.accelerator)
            new = [part for part in large if part not in small]
            _holds(any("300M" in part for part in new), f"300 MB must be asked for: {new}")
            _holds("3" in large, f"3 cpus must be asked for: {large}")
            text = " ".join(small)
            image = spec.image
            assert image is not None  # noqa: S101 - of our own making
            for part in (str(image.kernel), str(image.initrd), image.cmdline.split()[0]):
                _holds(part in text, f"{part} must be in the command")

    def test_disks_are_told_with_their_format_or_refused(self) -> None:
        for format_ in ("raw", "qcow2", "vmdk", "iso"):
            with self._spec() as spec:
                disk = Disk(spec.directory / "a-disk", format_, disc=format_ == "iso")
                with contextlib.suppress(InvalidError):
                    command = self.make_hypervisor().build(
                        replace(spec, disks=[disk]), self.accelerator
                    )
                    _holds(format_ in self.formats, f"{format_} must be refused")
                    _holds(any("a-disk" in part for part in command), "it must have its disk")
                    continue
                _holds(format_ not in self.formats, f"{format_} must be taken")

    def test_a_machine_runs_logs_and_ends(self) -> None:
        with self._running() as (spec, child):
            log = spec.directory / CONSOLE_LOG
            _await(lambda: self.speaks in _content(log), f"the console must say {self.speaks!r}")
            pid = int((spec.directory / PID_FILE).read_text())
            _holds(pid == child.pid, "its file must have its process id")
            child.signal_group(signal.SIGTERM)
            child.wait(scaled(_START))

    def test_it_listens_on_no_network(self) -> None:
        with self._running() as (spec, child):
            _await(lambda: bool(_content(spec.directory / CONSOLE_LOG)), "it must have begun")
            found = psutil.Process(child.pid).net_connections("inet")
            _holds(not found, f"nothing was to be forwarded, but there is {found}")

    @contextlib.contextmanager
    def _spec(self) -> Iterator[PersistentSpec]:
        with tempfile.TemporaryDirectory(prefix="core-infra-hypervisor-") as directory:
            image = self.make_image()
            folder = Path(directory) / "a machine"
            folder.mkdir()
            yield PersistentSpec("a-machine", folder, image.arch, 128, 1, image)

    @contextlib.contextmanager
    def _running(self) -> Iterator[tuple[PersistentSpec, Child]]:
        with self._spec() as bare, contextlib.ExitStack() as lines:
            hypervisor, folder = self.make_hypervisor(), MachineDirectory(bare.directory)
            sockets: dict[str, socket.socket] = {
                name: lines.enter_context(folder.listen(name)) for name in ("monitor", "console")
            }
            spec = replace(bare, lines={name: one.fileno() for name, one in sockets.items()})
            with folder.hypervisor_log.open("wb") as log:
                child = spawn(
                    hypervisor.build(spec, self.accelerator),
                    output=log,
                    pass_fds=list(spec.lines.values()),
                )
            try:
                if hypervisor.has_monitor:
                    monitor = Qmp(connect(folder.line("monitor")))
                    try:
                        monitor.execute("cont", timeout=scaled(_START))
                    finally:
                        monitor.close()
                yield spec, child
            finally:
                child.kill()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _await(truth: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + scaled(_START)
    while not truth():
        _holds(time.monotonic() < deadline, what)
        time.sleep(_INTERVAL)


def _holds(truth: object, what: str) -> None:
    # Not assert: pytest rewrites it in tests only, and python -O drops it.
    if not truth:
        raise AssertionError(what)

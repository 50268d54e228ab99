"""The contract of a hypervisor, as tests to run on your own."""

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
from core_infra.vm._hardware import Disk
from core_infra.vm._hypervisors.detect import get_hypervisor
from core_infra.vm._hypervisors.hypervisor import CONSOLE_LOG, PID_FILE, PersistentSpec
from core_infra.vm._hypervisors.qmp import Qmp
from core_infra.vm._manager.machine_directory import MachineDirectory
from core_infra.vm._timeouts import scaled

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from core_infra.process._child import Child
    from core_infra.vm._hypervisors.hypervisor import Hypervisor
    from core_infra.vm._images.image import Image

_START = 5.0
_INTERVAL = 0.02


class HypervisorContract:
    """The contract of a hypervisor, for machines that boot a kernel and an initrd.

    Subclass it in a test module. If the host lacks the hypervisor's program, put a stand-in on
    PATH: it must write the console log and its process id, and end on SIGTERM, like the real one.

    Attributes:
        accelerator: the accelerator of its machines.
        formats: the disk formats that it reads.
        console_output: bytes that the console prints when a machine starts.
    """

    accelerator = "tcg"
    formats: tuple[str, ...] = ("raw", "iso")
    console_output = b"Linux version"

    def make_hypervisor(self) -> Hypervisor:
        """Return the hypervisor under test, installed. Override this."""
        raise NotImplementedError(f"{type(self).__name__} must have make_hypervisor()")

    def make_image(self) -> Image:
        """Return a kernel and an initrd that it can run. Override this."""
        raise NotImplementedError(f"{type(self).__name__} must have make_image()")

    def test_it_is_known_by_its_name(self) -> None:
        hypervisor = self.make_hypervisor()
        _holds(type(get_hypervisor(hypervisor.name)) is type(hypervisor), "it must be registered")
        _holds(bool(hypervisor.version()), "it must report its version")

    def test_the_same_machine_is_the_same_command(self) -> None:
        with self._spec() as spec:
            hypervisor = self.make_hypervisor()
            command = hypervisor.build(spec, self.accelerator)
            _holds(command == hypervisor.build(spec, self.accelerator), "it must be the same")
            _holds(Path(command[0]).is_absolute(), "the program must have an absolute path")
            _holds(not (spec.directory / PID_FILE).exists(), "build must not start anything")

    def test_the_command_has_memory_cpus_and_image(self) -> None:
        with self._spec() as spec:
            hypervisor = self.make_hypervisor()
            small = hypervisor.build(spec, self.accelerator)
            large = hypervisor.build(replace(spec, memory=300, cpus=3), self.accelerator)
            new = [part for part in large if part not in small]
            _holds(any("300M" in part for part in new), f"300 MB must be requested: {new}")
            _holds("3" in large, f"3 cpus must be requested: {large}")
            text = " ".join(small)
            image = spec.image
            assert image is not None  # noqa: S101 - _spec sets it
            for part in (str(image.kernel), str(image.initrd), image.cmdline.split()[0]):
                _holds(part in text, f"{part} must be in the command")

    def test_disks_are_in_the_command_or_refused(self) -> None:
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
                _holds(format_ not in self.formats, f"{format_} must be accepted")

    def test_a_machine_runs_logs_and_ends(self) -> None:
        with self._running() as (spec, child):
            log = spec.directory / CONSOLE_LOG
            _await(
                lambda: self.console_output in _content(log),
                f"the console must print {self.console_output!r}",
            )
            pid = int((spec.directory / PID_FILE).read_text())
            _holds(pid == child.pid, "its file must have its process id")
            child.signal_group(signal.SIGTERM)
            child.wait(scaled(_START))

    def test_it_listens_on_no_network(self) -> None:
        with self._running() as (spec, child):
            _await(lambda: bool(_content(spec.directory / CONSOLE_LOG)), "it must have started")
            found = psutil.Process(child.pid).net_connections("inet")
            _holds(not found, f"no port is forwarded, but it listens on {found}")

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
            spec = replace(bare, sockets={name: one.fileno() for name, one in sockets.items()})
            with folder.hypervisor_log.open("wb") as log:
                child = spawn(
                    hypervisor.build(spec, self.accelerator),
                    output=log,
                    pass_fds=list(spec.sockets.values()),
                )
            try:
                if hypervisor.has_monitor:
                    monitor = Qmp(connect(folder.socket_path("monitor")))
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

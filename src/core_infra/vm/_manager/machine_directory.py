"""The directory of a machine: the names of its files, and what can be read from them."""

from __future__ import annotations

import os
import re
import shutil
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core_infra._eventloop.sockets import short_path
from core_infra.vm._console import PANIC
from core_infra.vm._guest.protocol import AGENT_PORTS
from core_infra.vm._hypervisors.hypervisor import CONSOLE_LOG, PID_FILE, agent_socket_name

if TYPE_CHECKING:
    from pathlib import Path

_TAIL = 64 * 1024
_SHOWN_LINES = 3
_PANIC = re.compile(PANIC.encode())


@dataclass(frozen=True)
class MachineDirectory:
    """The files of a machine.

    Attributes:
        path: its directory, accessible to its user only.
    """

    path: Path

    def make(self) -> None:
        """Create the directory."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.mkdir(mode=0o700)

    def remove(self) -> None:
        """Remove the directory with all files."""
        shutil.rmtree(self.path, ignore_errors=True)

    def listen(self, name: str) -> socket.socket:
        """A listening socket named *name*, for the hypervisor to inherit."""
        server = socket.socket(socket.AF_UNIX)
        self.socket_path(name).unlink(missing_ok=True)  # of an earlier start
        try:
            with short_path(self.socket_path(name)) as address:
                server.bind(address)
            server.listen(8)
        except BaseException:
            server.close()
            raise
        return server

    def socket_path(self, name: str) -> Path:
        """The path of the socket *name*: monitor, console, agent, qga."""
        return self.path / f"{name}.sock"

    def agent_sockets(self) -> list[Path]:
        """The sockets of the agent's ports; a machine of an earlier version has only one."""
        paths = [self.socket_path(agent_socket_name(number)) for number in range(AGENT_PORTS)]
        return [path for path in paths if path.exists()] or paths[:1]

    @property
    def console_log(self) -> Path:
        """The log of the console."""
        return self.path / CONSOLE_LOG

    @property
    def hypervisor_log(self) -> Path:
        """The output of the hypervisor, and of virtiofsd."""
        return self.path / "hypervisor.log"

    @property
    def command(self) -> Path:
        """The hypervisor's command line."""
        return self.path / "command"

    @property
    def metadata(self) -> Path:
        """The disc that configures the machine's login."""
        return self.path / "metadata.iso"

    @property
    def base(self) -> Path:
        """The disk below the machine's layer, if it is not the image itself."""
        return self.path / "base.qcow2"

    @property
    def key(self) -> Path:
        """The private key to log in with."""
        return self.path / "id_ed25519"

    @property
    def host_key(self) -> Path:
        """The pinned key of its SSH server."""
        return self.path / "host_key.pub"

    def pid(self) -> int | None:
        """The hypervisor's process id; None if it has exited normally."""
        try:
            return int((self.path / PID_FILE).read_text())
        except (OSError, ValueError):
            return None

    def log_size(self) -> int:
        """The size of the console's log, in bytes."""
        try:
            return self.console_log.stat().st_size
        except FileNotFoundError:
            return 0

    def panic(self, since: int) -> str:
        """The kernel's panic message after *since* bytes of the console; empty without a panic."""
        found = _PANIC.findall(_tail(self.console_log, since))
        return found[-1].decode("utf-8", "replace") if found else ""

    def last_log_lines(self) -> str:
        """The last lines of the hypervisor's log."""
        lines = _tail(self.hypervisor_log).decode("utf-8", "replace").strip().splitlines()
        return "; ".join(lines[-_SHOWN_LINES:])


def _tail(path: Path, since: int = 0) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(since, os.fstat(file.fileno()).st_size - _TAIL))
            return file.read()
    except OSError:
        return b""

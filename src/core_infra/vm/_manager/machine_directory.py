"""A machine's directory: what its files are called, and what they tell."""

from __future__ import annotations

import os
import re
import shutil
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core_infra._eventloop.sockets import short_path
from core_infra.vm._guest.protocol import LINES
from core_infra.vm._hypervisors.hypervisor import CONSOLE_LOG, PID_FILE, agent_line

if TYPE_CHECKING:
    from pathlib import Path

_TAIL = 64 * 1024
_LAST_WORDS = 3
_PANIC = re.compile(rb"Kernel panic - not syncing: [^\r\n]*")


@dataclass(frozen=True)
class MachineDirectory:
    """The files of a machine.

    Attributes:
        path: its directory; only its user can look into it.
    """

    path: Path

    def make(self) -> None:
        """Make the directory."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.mkdir(mode=0o700)

    def remove(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.path, ignore_errors=True)

    def listen(self, name: str) -> socket.socket:
        """A listening socket for the line *name*, which the hypervisor will serve."""
        server = socket.socket(socket.AF_UNIX)
        self.line(name).unlink(missing_ok=True)  # of an earlier start
        try:
            with short_path(self.line(name)) as address:
                server.bind(address)
            server.listen(8)
        except BaseException:
            server.close()
            raise
        return server

    def line(self, name: str) -> Path:
        """The socket of the line *name*: monitor, console, agent, qga."""
        return self.path / f"{name}.sock"

    def agent_lines(self) -> list[Path]:
        """The sockets of the lines to the agent; a machine of an earlier version has one."""
        lines = [self.line(agent_line(number)) for number in range(LINES)]
        return [line for line in lines if line.exists()] or lines[:1]

    @property
    def console_log(self) -> Path:
        """What the console has printed."""
        return self.path / CONSOLE_LOG

    @property
    def hypervisor_log(self) -> Path:
        """What the hypervisor has said."""
        return self.path / "hypervisor.log"

    @property
    def command(self) -> Path:
        """The hypervisor's command line."""
        return self.path / "command"

    @property
    def metadata(self) -> Path:
        """The disc that tells the machine who may log in."""
        return self.path / "metadata.iso"

    @property
    def base(self) -> Path:
        """What the machine's disk is a layer over, if that is not the image itself."""
        return self.path / "base.qcow2"

    @property
    def key(self) -> Path:
        """The private key that logs in."""
        return self.path / "id_ed25519"

    @property
    def host_key(self) -> Path:
        """The key of its SSH server, from the first contact on."""
        return self.path / "host_key.pub"

    def pid(self) -> int | None:
        """The hypervisor's process id, unless it has ended in order."""
        try:
            return int((self.path / PID_FILE).read_text())
        except (OSError, ValueError):
            return None

    def log_size(self) -> int:
        """Bytes that the console has printed."""
        try:
            return self.console_log.stat().st_size
        except FileNotFoundError:
            return 0

    def panic(self, since: int) -> str:
        """The guest kernel's last sentence, if it panicked after *since* bytes of the console."""
        found = _PANIC.findall(_tail(self.console_log, since))
        return found[-1].decode("utf-8", "replace") if found else ""

    def last_words(self) -> str:
        """The last lines of the hypervisor, and of what serves it."""
        lines = _tail(self.hypervisor_log).decode("utf-8", "replace").strip().splitlines()
        return "; ".join(lines[-_LAST_WORDS:])


def _tail(path: Path, since: int = 0) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(since, os.fstat(file.fileno()).st_size - _TAIL))
            return file.read()
    except OSError:
        return b""

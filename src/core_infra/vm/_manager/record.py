"""The record of a machine that outlives the command that started it."""

from __future__ import annotations

import enum
import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, computed_field, model_validator

from core_infra.errors import InvalidError
from core_infra.vm._hardware import FOREIGN_MEMORY

LOOPBACK = "127.0.0.1"
QGA = "qga"
"""The name of the socket of QEMU's agent, which images have that do not have ours."""
_ID = re.compile(r"[0-9a-f]{8}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


class ContainerStatus(enum.StrEnum):
    """The states of a machine in its record."""

    RUNNING = "running"
    STOPPED = "stopped"
    ERROR = "error"


class Access(enum.StrEnum):
    """The way into a machine."""

    AGENT = "agent"
    QGA = "qemu-ga"
    SSH = "ssh"
    NONE = "none"


class Volume(BaseModel):
    """A directory or a file of this host that is mounted in a machine.

    Attributes:
        path: its path on this host.
        place: its path in the guest.
        read_only: the guest cannot write to it.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    place: str
    read_only: bool = False


class Port(BaseModel):
    """A port of this host that is forwarded to a port of the guest.

    Attributes:
        guest: the guest's port.
        host: this host's port; 0 lets the system choose.
        address: the address of this host to listen on; ``0.0.0.0`` is all of them.
        udp: whether it is a UDP port; otherwise it is a TCP port.
        chosen: whether the system chose the host's port.
    """

    model_config = ConfigDict(frozen=True)

    guest: int
    host: int = 0
    address: str = LOOPBACK
    udp: bool = False
    chosen: bool = False

    def __str__(self) -> str:
        address = "" if self.address == LOOPBACK else f"{self.address}:"
        return f"{address}{self.host}→{self.guest}{'/udp' if self.udp else ''}"


class Container(BaseModel):
    """The record of a machine.

    Attributes:
        id: eight hexadecimal digits.
        name: a unique name.
        image: the image, as it was given to ``run``.
        status: running, stopped, or error.
        reason: why it is in error, or how it was stopped.
        pid: the process id of its hypervisor; before that runs, of the process that starts it; None
            if it is not running.
        starting: whether *pid* is the process that starts it.
        start: when the process *pid* was started, as by :func:`~.process_identity.start_of`.
        started_at: when the machine was started.
        published: its forwarded ports.
        mounts: its volumes.
        ready: whether its guest was resumed and its volumes were mounted. If its start was killed
            midway, the next command that enters it does both.
        log_from: bytes of the console's log that are of earlier starts.
        again: the settings to start it again; empty in the record of an earlier version.
        memory: MiB.
        cpus: virtual processors.
        hypervisor: the name of the program that runs it.
        accelerator: the name of its accelerator.
        access: the way into it.
        ssh_port: the port of this host that is forwarded to its SSH server.
        ssh_user: the user to log in as by SSH.
        ssh_key: the file with the private key; empty for the machine's own.
    """

    # Fields of a later version are kept, although this version does not use them.
    model_config = ConfigDict(frozen=True, extra="allow")

    id: Annotated[str, Field(pattern=f"^{_ID.pattern}$")]
    name: Annotated[str, Field(pattern=f"^{_NAME.pattern}$")]
    image: str
    status: ContainerStatus = ContainerStatus.RUNNING
    reason: str = ""
    pid: int | None = None
    start: str | None = None
    starting: bool = False
    started_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    published: tuple[Port, ...] = ()
    mounts: tuple[Volume, ...] = ()
    ready: bool = False
    log_from: int = 0
    again: dict[str, Any] = Field(default_factory=dict)
    memory: int = FOREIGN_MEMORY
    cpus: int = 1
    hypervisor: str = "qemu"
    accelerator: str = ""
    access: Access = Access.NONE
    ssh_port: int | None = None
    ssh_user: str = "root"
    ssh_key: str = ""

    @computed_field  # type: ignore[prop-decorator] # pydantic's own advice
    @property
    def ports(self) -> dict[int, int]:
        """TCP ports of the loopback address, each with the port of the guest."""
        return {
            one.host: one.guest for one in self.published if not one.udp and one.address == LOOPBACK
        }

    @computed_field  # type: ignore[prop-decorator] # pydantic's own advice
    @property
    def volumes(self) -> dict[str, str]:
        """Directories and files of this host, each with one of its paths in the guest."""
        return {one.path: one.place for one in self.mounts}

    @model_validator(mode="before")
    @classmethod
    def _from_earlier(cls, record: Any) -> Any:
        """Accept the fields of an earlier version."""
        if not isinstance(record, dict):
            return record
        record = dict(record)
        ports, volumes = record.pop("ports", {}), record.pop("volumes", {})
        record.setdefault(
            "published", [{"host": host, "guest": guest} for host, guest in ports.items()]
        )
        record.setdefault(
            "mounts", [{"path": path, "place": place} for path, place in volumes.items()]
        )
        return record


def checked_name(name: str) -> str:
    """Return the name if it is valid for a machine.

    Raises:
        InvalidError: it is not.
    """
    if not _NAME.fullmatch(name):
        raise InvalidError(
            f"a machine cannot be named {name!r}",
            todo="Use at most 63 letters, digits, dots, dashes and underscores, and begin with a "
            "letter or a digit.",
        )
    if _ID.fullmatch(name):
        raise InvalidError(f"a machine cannot be named {name!r}", why="that looks like an id")
    return name

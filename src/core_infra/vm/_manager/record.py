"""What is remembered of a machine that outlives the command that started it."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, computed_field, model_validator

from core_infra.errors import InvalidError
from core_infra.vm._hardware import FOREIGN_MEMORY

if TYPE_CHECKING:
    from collections.abc import Sequence

LOOPBACK = "127.0.0.1"
_ID = re.compile(r"[0-9a-f]{8}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


class Status(enum.StrEnum):
    """The states of a machine, as they are remembered."""

    RUNNING = "running"
    STOPPED = "stopped"
    ERROR = "error"


class Access(enum.StrEnum):
    """By what a machine's inside is reached."""

    AGENT = "agent"
    QGA = "qemu-ga"
    SSH = "ssh"
    NONE = "none"


class Volume(BaseModel):
    """A directory or a file of this host in a machine.

    Attributes:
        path: it, on this host.
        place: where it is in the guest.
        read_only: the guest cannot write to it.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    place: str
    read_only: bool = False


class Port(BaseModel):
    """A port of this host that leads to one of the guest.

    Attributes:
        guest: the guest's.
        host: this host's; 0 lets the system choose.
        address: of this host, where it is listened on; ``0.0.0.0`` is every one.
        udp: it is a UDP port, and not a TCP port.
        chosen: the system chose it.
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
    """What is remembered of a machine.

    Attributes:
        id: eight hexadecimal digits.
        name: what people call it; no two machines have the same.
        image: what it boots, as it was asked for.
        status: running, stopped, or error.
        reason: why it is in error, or how it came to stop.
        pid: the process id of its hypervisor; of who starts it, until that runs; None afterwards.
        starting: whether that process is the one that starts it.
        start: when that process was started, as :func:`~.identity.start_of` tells it.
        started_at: when it was started.
        published: ports of this host that lead to its own.
        mounts: what it has of this host's files.
        ready: whether its guest was begun and its volumes mounted: the first who enters sees to
            both, should the starter have been killed.
        log_from: bytes of the console's log that are of earlier starts.
        again: how it is started again; empty in the record of an earlier version.
        memory: MiB.
        cpus: virtual processors.
        hypervisor: the name of the program that runs it.
        accelerator: how its instructions run.
        access: by what its inside is reached.
        ssh_port: the port of this host that leads to its SSH server.
        ssh_user: who is logged in there.
        ssh_key: the file with the private key; empty for the machine's own.
    """

    # What a later version has added is kept, though it means nothing here.
    model_config = ConfigDict(frozen=True, extra="allow")

    id: Annotated[str, Field(pattern=f"^{_ID.pattern}$")]
    name: Annotated[str, Field(pattern=f"^{_NAME.pattern}$")]
    image: str
    status: Status = Status.RUNNING
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
        """TCP ports of the loopback address, each with the guest's that it leads to."""
        return {
            one.host: one.guest for one in self.published if not one.udp and one.address == LOOPBACK
        }

    @computed_field  # type: ignore[prop-decorator] # pydantic's own advice
    @property
    def volumes(self) -> dict[str, str]:
        """Directories and files of this host, each with one place that it has in the guest."""
        return {one.path: one.place for one in self.mounts}

    @model_validator(mode="before")
    @classmethod
    def _from_earlier(cls, record: Any) -> Any:
        """What an earlier version has written, or given, in its own form."""
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


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a machine is run.

    Attributes:
        name: what people call it; None makes one up.
        detach: it outlives the process that starts it.
        memory: MiB; None is what fits the image.
        cpus: virtual processors; None is one, unless the image says otherwise.
        cpu: the processor, as QEMU's ``-cpu`` takes it; None is one that suits.
        ports: of this host's loopback address, each with the guest's that it leads to.
        publish: more ports; of a number, which is the guest's, the system chooses the one of this
            host.
        volumes: directories and files of this host, each with its place in the guest.
        ssh_port: of this host, for the machine's SSH server; 0 lets the system choose.
        ssh_user: who logs in there.
        ssh_key: the file with the private key; empty makes one for this machine.
        hypervisor: the name of the program that runs it; empty is the best that is installed.
        accelerator: auto, kvm, hvf or tcg.
        arch: of the default image, or of a disk, which does not show it; empty is this host's.
        isolated: the machine reaches neither this host nor any other.
        in_place: it writes to the image's own disk; otherwise that is never written to.
    """

    name: str | None = None
    detach: bool = False
    memory: int | None = None
    cpus: int | None = None
    cpu: str | None = None
    ports: Mapping[int, int] = field(default_factory=dict)
    publish: Sequence[int | Port] = ()
    volumes: Mapping[str, str] | Sequence[Volume] = ()
    ssh_port: int = 0
    ssh_user: str = "root"
    ssh_key: str = ""
    hypervisor: str = ""
    accelerator: str = "auto"
    arch: str = ""
    isolated: bool = False
    in_place: bool = False

    @property
    def published(self) -> list[Port]:
        """All ports."""
        return [
            *(Port.model_construct(host=host, guest=guest) for host, guest in self.ports.items()),
            *(one if isinstance(one, Port) else Port.model_construct(guest=one, chosen=True)
              for one in self.publish),
        ]  # fmt: skip

    @property
    def mounts(self) -> list[Volume]:
        """All volumes."""
        if isinstance(self.volumes, Mapping):
            return [Volume(path=path, place=place) for path, place in self.volumes.items()]
        return list(self.volumes)


def checked_name(name: str) -> str:
    """The name, if a machine can have it.

    Raises:
        InvalidError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise InvalidError(
            f"a machine cannot be named {name!r}",
            todo="Use letters, digits, dots, dashes and underscores: 63 at most, and begin with a "
            "letter or a digit.",
        )
    if _ID.fullmatch(name):
        raise InvalidError(f"a machine cannot be named {name!r}", why="that looks like an id")
    return name

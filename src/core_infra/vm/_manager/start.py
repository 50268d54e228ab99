"""Starts the hypervisor of a machine, with its disks, volumes and ports."""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.errors import CoreInfraError, NotFoundError, TimeoutExpiredError, UnavailableError
from core_infra.process._child import spawn
from core_infra.vm import _port_forwarding
from core_infra.vm._access import ssh
from core_infra.vm._attach import connect
from core_infra.vm._disks import examine, file_name, layers, usable
from core_infra.vm._free_space import written
from core_infra.vm._guest.protocol import AGENT_PORTS
from core_infra.vm._hardware import Disk
from core_infra.vm._hypervisors.hypervisor import PersistentSpec, agent_socket_name
from core_infra.vm._hypervisors.qmp import Qmp
from core_infra.vm._images import cloud_init
from core_infra.vm._images.agent_injection import with_agent_archive
from core_infra.vm._images.formats import ImageFormat
from core_infra.vm._images.image import DiskImage, disk_of
from core_infra.vm._manager import volumes
from core_infra.vm._manager.process_identity import start_of
from core_infra.vm._manager.record import QGA, Access, Port
from core_infra.vm._timeouts import scaled

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

    from core_infra.process._child import Child
    from core_infra.vm._hypervisors.hypervisor import Hypervisor, Share
    from core_infra.vm._images.image import Bootable
    from core_infra.vm._manager.machine_directory import MachineDirectory
    from core_infra.vm._manager.record import Container
    from core_infra.vm._manager.run_options import RunOptions

SSH = 22
"""The port of the guest's SSH server."""

_ANSWER = 2.0

# MiB of a machine. A port of the agent can cost 4 of them: QEMU 10.0.13 gives each virtio queue
# 1024 entries, and Linux allocates a page for each entry of a port's queue in advance.
_MEMORY_FOR_A_PORT = 32
_FEWEST_PORTS = 2


@dataclass(frozen=True)
class Started:
    """A machine that has started.

    Attributes:
        child: its hypervisor.
        facts: fields of its record that its start has determined.
        console: a connection to its console, opened before the first byte; None if it is detached.
        shares: the directories that it can mount.
    """

    child: Child
    facts: dict[str, object]
    console: socket.socket | None
    shares: list[Share]


class Starter:
    """Starts one machine.

    Args:
        container: its record.
        image: the image that it boots.
        directory: its directory, which exists.
        hypervisor: the hypervisor that runs it.
        accelerator: the name of the accelerator.
        options: how it is run.
        progress: called with a line about restrictions.
    """

    def __init__(
        self,
        container: Container,
        image: Bootable,
        directory: MachineDirectory,
        *,
        hypervisor: Hypervisor,
        accelerator: str,
        options: RunOptions,
        progress: Callable[[str], None],
    ) -> None:
        self._container = container
        self._image = image
        self._directory = directory
        self._hypervisor = hypervisor
        self._accelerator = accelerator
        self._options = options
        self._progress = progress
        self._has_agent = image.has_agent

    def start(self, record: Callable[[dict[str, object]], object]) -> Started:
        """Start it.

        Args:
            record: called with fields of the record before the guest runs. If it raises, the
                machine is not started.

        Raises:
            UnavailableError: the hypervisor did not start; says why.
        """
        if isinstance(self._image, DiskImage):
            by_virtiofs = volumes.can_serve()
        else:
            by_virtiofs = self._has_agent or self._image.has_virtiofs
        shares = [
            volumes.served_share(share, self._directory, self._progress)
            for share in volumes.shares(self._options.mounts, by_virtiofs=by_virtiofs)
        ]
        disks = [*self._disks(), *self._metadata(shares)]
        with contextlib.ExitStack() as undo:
            bound = not self._options.detach
            servers: list[Child] = []
            for share in _served(shares):
                server = volumes.serve(share, self._directory, die_with_parent=bound)
                undo.callback(server.kill)
                servers.append(server)
            child = self._spawn(disks, shares, die_with_parent=bound)
            undo.callback(child.kill)
            console = None
            if not self._options.detach:
                console = connect(self._directory.socket_path("console"))
                undo.callback(console.close)
            facts: dict[str, object] = {"pid": child.pid, "start": start_of(child.pid)}
            with self._monitor(child, servers) as monitor:
                facts |= self._forward(monitor)
                record(facts | {"starting": False})
                if monitor is not None:
                    monitor.execute("cont")
            undo.pop_all()
        return Started(child, facts, console, shares)

    def _spawn(self, disks: list[Disk], shares: list[Share], *, die_with_parent: bool) -> Child:
        image = None if isinstance(self._image, DiskImage) else self._image
        inside = [] if self._has_agent else [QGA]
        if self._container.access is Access.AGENT:
            fitting = max(_FEWEST_PORTS, self._container.memory // _MEMORY_FOR_A_PORT)
            inside += [agent_socket_name(number) for number in range(min(AGENT_PORTS, fitting))]
            if image is not None and not self._has_agent:
                image = with_agent_archive(image)
        for left in self._directory.agent_sockets():  # of an earlier start
            left.unlink(missing_ok=True)
        names = ["monitor", "console", *inside]
        with contextlib.ExitStack() as stack:
            lines = {name: stack.enter_context(self._directory.listen(name)) for name in names}
            servers = {
                share.tag: stack.enter_context(connect(self._directory.socket_path(share.tag)))
                for share in _served(shares)
            }
            spec = PersistentSpec(
                name=self._container.name,
                directory=self._directory.path,
                arch=self._image.arch,
                memory=self._container.memory,
                cpus=self._container.cpus,
                cpu=self._options.cpu or self._image.cpu,
                image=image,
                disks=disks,
                shares=shares,
                isolated=self._options.isolated,
                sockets={name: line.fileno() for name, line in lines.items()},
                virtiofs={tag: server.fileno() for tag, server in servers.items()},
                mac="52:54:00:" + ":".join(self._container.id[at : at + 2] for at in (0, 2, 4)),
            )
            command = self._hypervisor.build(spec, self._accelerator)
            self._directory.command.write_text(shlex.join(command) + "\n")
            with self._directory.hypervisor_log.open("ab") as log:
                return spawn(
                    command,
                    output=log,
                    pass_fds=[*spec.sockets.values(), *spec.virtiofs.values()],
                    die_with_parent=die_with_parent,
                    without_file_signals=True,
                )

    @contextlib.contextmanager
    def _monitor(self, child: Child, servers: Sequence[Child]) -> Iterator[Qmp | None]:
        """The hypervisor's monitor, after its first answer; None if it has no monitor."""
        if not self._hypervisor.has_monitor:
            yield None
            return
        monitor = Qmp(connect(self._directory.socket_path("monitor")))
        try:
            try:
                monitor.execute("query-status", timeout=scaled(_ANSWER))
            except (UnavailableError, TimeoutExpiredError) as error:
                child.kill()
                volumes.require_running(servers, self._directory)
                raise UnavailableError(
                    f"machine {self._container.name} did not start",
                    why=self._directory.last_log_lines() or error.what,
                    todo=f"The command was: {self._directory.command.read_text().strip()}",
                ) from error
            yield monitor
        finally:
            monitor.close()

    def _forward(self, monitor: Qmp | None) -> dict[str, object]:
        options = self._options
        wanted = options.published
        with_ssh = not self._has_agent or options.ssh_port
        if monitor is None:
            if wanted or options.ssh_port:
                raise UnavailableError(
                    f"cannot forward ports to {self._container.name}",
                    why=f"{self._hypervisor.name} does not",
                )
            return {}
        facts: dict[str, object] = {"published": [self._listen(monitor, one) for one in wanted]}
        if with_ssh:
            ssh_port = Port(guest=SSH, host=options.ssh_port, chosen=bool(self._container.ssh_port))
            facts["ssh_port"] = self._listen(monitor, ssh_port).host
        return facts

    def _listen(self, monitor: Qmp, port: Port) -> Port:
        forward = functools.partial(
            _port_forwarding.forward, monitor, port.guest, address=port.address, udp=port.udp
        )
        try:
            host = forward(host=port.host)
        except UnavailableError:
            if not port.chosen or not port.host:
                raise
            # The system chose it at the first start; another process has taken it meanwhile.
            host = forward()
            self._progress(
                f"port {port.host} is in use: {host} is forwarded to {port.guest} instead"
            )
        return port.model_copy(update={"host": host, "chosen": port.chosen or not port.host})

    def _disks(self) -> list[Disk]:
        disk = disk_of(self._image)
        if disk is None:
            return []
        if disk.read_only:
            return [disk]
        own = self._directory.path / file_name(0)
        if own.exists():  # the machine is started again
            return [replace(disk, path=own, format=ImageFormat.QCOW2)]
        if disk.format == ImageFormat.PACKED:
            disk = self._own(usable(disk, self._progress))
        else:
            examine(disk)
        if self._options.in_place:
            if not os.access(disk.path, os.W_OK):
                raise UnavailableError(f"{disk.path} cannot be written to")
            return [disk]
        return list(layers([disk], self._directory.path))

    def _own(self, disk: Disk) -> Disk:
        """A link to a disk of the cache, or a copy: the cache may be emptied at any time."""
        path = self._directory.base
        with written("a machine's disk", path.parent):
            try:
                path.hardlink_to(disk.path)
            except OSError:  # another file system
                shutil.copyfile(disk.path, path)
        return replace(disk, path=path)

    def _metadata(self, shares: Sequence[Share]) -> list[Disk]:
        if self._has_agent or not self._hypervisor.has_monitor:
            return []
        disc = Disk(self._directory.metadata, "iso", read_only=True, disc=True)
        if self._directory.metadata.exists():
            return [disc]
        try:
            key = self._public_key()
            if isinstance(self._image, DiskImage):
                files = cloud_init.nocloud(
                    id_=self._container.id,
                    name=self._container.name,
                    user=self._options.ssh_user,
                    key=key,
                    boot_command=volumes.mount_command(shares, self._options.mounts),
                )
            else:
                files = cloud_init.linuxkit(key=key)
            cloud_init.write_disc(self._directory.metadata, files)
        except NotFoundError:
            raise
        except CoreInfraError as error:
            self._progress(f"logging in by SSH will not be possible: {error}")
            return []
        return [disc]

    def _public_key(self) -> str:
        """The public key that may log in: the user's, or else a new one."""
        if not self._options.ssh_key:
            return ssh.make_key(self._directory.key)
        private = Path(self._options.ssh_key).expanduser()
        if not private.is_file():
            raise NotFoundError(f"there is no private key {private}")
        public = private.with_name(f"{private.name}.pub")
        return public.read_text().strip() if public.is_file() else ssh.public_key(private)


def _served(shares: list[Share]) -> list[Share]:
    """The shares that a virtiofsd serves."""
    return [share for share in shares if share.by_virtiofs]

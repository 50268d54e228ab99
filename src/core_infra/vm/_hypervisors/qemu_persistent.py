"""QEMU for machines that outlive their starter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.vm._guest.protocol import LINES, port_name
from core_infra.vm._hypervisors.hypervisor import CONSOLE_LOG, PID_FILE, agent_line
from core_infra.vm._hypervisors.processor import processor
from core_infra.vm._hypervisors.qemu import MEMORY, QemuHypervisor, board, escaped, kernel
from core_infra.vm._hypervisors.qemu_arguments import drives

if TYPE_CHECKING:
    from core_infra.vm._hypervisors.hypervisor import PersistentSpec, Share

QGA_PORT_NAME = "org.qemu.guest_agent.0"


class PersistentQemu(QemuHypervisor):
    """QEMU's system emulators."""

    has_monitor = True

    def build(self, spec: PersistentSpec, accelerator: str) -> list[str]:
        """The command that runs *spec*; the port tells the arguments."""
        return [
            str(self.program(spec.arch)),
            *("-name", escaped(spec.name)),
            *_memory(spec),
            *_board(spec, accelerator, self.version()),
            *("-m", f"{spec.memory}M", "-smp", str(spec.cpus)),
            *("-nodefaults", "-no-user-config", "-display", "none"),
            # The guest waits until its ports are forwarded and its record is written.
            *("-S", "-pidfile", str(spec.directory / PID_FILE)),
            *_lines(spec),
            *("-object", "rng-random,id=entropy,filename=/dev/urandom"),
            *("-device", "virtio-rng-pci,rng=entropy"),
            # Forwarded ports are added later, on the loopback address.
            *("-netdev", f"user,id=net0,restrict={'on' if spec.isolated else 'off'}"),
            *("-device", f"virtio-net-pci,id=nic0,netdev=net0,romfile=,mac={spec.mac}"),
            *drives(spec.disks, spec.arch),
            *(part for share in spec.shares for part in _share(share, spec.servers.get(share.tag))),
        ]


def _memory(spec: PersistentSpec) -> list[str]:
    shared = any(share.by_virtiofs for share in spec.shares)  # with who serves them
    kind = "memory-backend-memfd,share=on" if shared else "memory-backend-ram"
    return ["-object", f"{kind},id={MEMORY},size={spec.memory}M"]


def _board(spec: PersistentSpec, accelerator: str, version: str) -> list[str]:
    cpu = processor(spec.arch, accelerator, spec.cpu)
    if spec.image is None:
        return board(spec.arch, accelerator, cpu, boots_kernel=False)
    has_disk = spec.image.disk is not None
    boots = [
        *board(spec.arch, accelerator, cpu),
        *kernel(spec.image, cpu, accelerator, version, restarts=has_disk),
    ]
    if has_disk:
        return boots
    # What is in memory only is gone with a restart: then the machine ends, as it does after a
    # panic, which restarts it.
    return [*boots, "-no-reboot"]


def _lines(spec: PersistentSpec) -> list[str]:
    log = escaped(spec.directory / CONSOLE_LOG)
    options = {"console": f",logfile={log},logappend=on"}
    arguments = []
    for name, fd in spec.lines.items():
        chardev = f"socket,id={name},fd={fd},server=on,wait=off{options.get(name, '')}"
        arguments += ["-chardev", chardev]
    arguments += ["-mon", "chardev=monitor,mode=control", "-serial", "chardev:console"]
    arguments += ["-device", "virtio-serial-pci"]
    agents = [(agent_line(number), port_name(number)) for number in range(LINES)]
    for line, port in (*agents, ("qga", QGA_PORT_NAME)):
        if line in spec.lines:
            arguments += ["-device", f"virtserialport,chardev={line},name={port}"]
    return arguments


def _share(share: Share, server: int | None) -> list[str]:
    if share.by_virtiofs:
        return [
            *("-chardev", f"socket,id={share.tag},fd={server}"),
            *("-device", f"vhost-user-fs-pci,chardev={share.tag},tag={share.tag}"),
        ]
    # What the guest makes belongs to who runs the machine, whoever makes it.
    more = ",readonly=on" if share.read_only else ""
    return [
        *("-fsdev", f"local,id={share.tag},path={escaped(share.path)},security_model=none{more}"),
        *("-device", f"virtio-9p-pci,fsdev={share.tag},mount_tag={share.tag}"),
    ]

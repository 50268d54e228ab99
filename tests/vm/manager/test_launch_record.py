"""Machines that are started again, with what they had."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import (
    InvalidError,
    NotFoundError,
    UnavailableError,
    WrongStateError,
)
from core_infra.vm._manager.manager import LinuxKitManager
from core_infra.vm._manager.record import Container, ContainerStatus, Port, Volume
from core_infra.vm._manager.run_options import RunOptions
from core_infra.vm._manager.state_file import FILE, State
from core_infra.vm._manager.volumes import shares

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.vm._images.image import Image


@pytest.fixture
def options(tmp_path: Path) -> RunOptions:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "f").write_text("of the host\n")
    (tmp_path / "conf").write_text("one\n")
    return RunOptions(
        name="again",
        detach=True,
        memory=128,
        publish=[80, Port(guest=53, udp=True, chosen=True), Port(guest=81, address="127.0.0.2")],
        volumes=[
            Volume(path=str(tmp_path / "a"), place="/work"),
            Volume(path=str(tmp_path / "a"), place="/ro/deep", read_only=True),
            Volume(path=str(tmp_path / "conf"), place="/etc/x.conf"),
        ],
    )


@pytest.mark.usefixtures("virtiofsd")
def test_a_machine_keeps_its_ports_and_volumes(
    manager: LinuxKitManager, default: Image, options: RunOptions, tmp_path: Path
) -> None:
    first = manager.run(default, options)
    look = "cat /work/f /etc/x.conf; ls /ro/deep; touch /ro/deep/z || echo refused"
    seen = manager.exec("again", look)
    assert seen.stdout == "of the host\none\nf\nrefused\n", seen.stderr
    manager.exec("again", "echo two >/etc/x.conf; echo new >/work/new").check()
    assert (tmp_path / "conf").read_text() == "two\n"
    assert (tmp_path / "a" / "new").read_text() == "new\n"
    with pytest.raises(WrongStateError, match="machine again is already running"):
        manager.start("again")
    manager.stop("again", grace=0)

    tcp, udp, other = first.published
    assert (tcp.address, udp.udp, other.address) == ("127.0.0.1", True, "127.0.0.2")
    with socket.socket() as taken:  # the one that the system had chosen is in use by now
        taken.bind(("127.0.0.1", tcp.host))
        taken.listen()
        second = manager.start("again")
    assert (second.id, second.name, second.status) == (first.id, "again", ContainerStatus.RUNNING)
    assert second.published[1:] == first.published[1:]
    assert second.published[0].host != tcp.host
    assert manager.exec("again", look).stdout == "of the host\ntwo\nf\nnew\nrefused\n"
    assert b"".join(manager.logs("again")).count(b"Linux version") == 2

    third = manager.restart("again", grace=0)
    assert third.published == second.published
    manager.remove("again", force=True)
    assert (tmp_path / "conf").read_text() == "two\n"


@pytest.mark.usefixtures("virtiofsd")
def test_a_start_that_fails_leaves_the_machine_as_it_was(
    manager: LinuxKitManager, default: Image, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    volumes = {str(tmp_path / "a"): "/a"}
    container = manager.run(
        default, RunOptions(name="gone", detach=True, memory=128, volumes=volumes)
    )
    stopped = manager.stop("gone", grace=0)
    (tmp_path / "a").rmdir()
    with pytest.raises(NotFoundError, match="no directory"):
        manager.start("gone")
    assert manager.find("gone") == stopped
    (tmp_path / "a").mkdir()
    assert manager.start("gone").id == container.id
    manager.remove("gone", force=True)


def record(tmp_path: Path, **fields: object) -> Container:
    """A machine of a disk, remembered as stopped."""
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(510) + b"\x55\xaa")
    image = {"path": str(disk), "format": "raw", "arch": "x86_64", "name": "disk.raw"}
    status = disk.stat()
    again = {
        "image": image,
        "arch": "x86_64",
        "stamp": [status.st_size, status.st_mtime_ns],
        "options": {},
    }
    values = {"id": "00000001", "name": "m", "image": "i", "status": "stopped", "again": again}
    container = Container.model_validate(values | fields)
    State(tmp_path / "state").add(container)
    return container


def test_a_disk_that_was_changed_is_told(tmp_path: Path) -> None:
    record(tmp_path)
    manager = LinuxKitManager(state=State(tmp_path / "state"))
    os.utime(tmp_path / "disk.raw", (1, 1))
    with pytest.raises(InvalidError, match="was changed since, and the machine's disk is a layer"):
        manager.start("m")
    (tmp_path / "disk.raw").unlink()
    with pytest.raises(NotFoundError, match=r"its image .*disk.raw does not exist any more"):
        manager.start("m")


def test_an_earlier_versions_record_is_read_and_what_it_lacks_is_told(tmp_path: Path) -> None:
    old = {
        "id": "00000001",
        "name": "old",
        "image": "disk.qcow2",
        "status": "stopped",
        "ports": {"8080": 80},
        "volumes": {"/srv/data": "/data"},
        "memory": 512,
        "access": "ssh",
        "ssh_port": 2222,
    }
    (tmp_path / FILE).write_text(json.dumps({"version": 1, "containers": {"00000001": old}}))
    manager = LinuxKitManager(state=State(tmp_path))
    found = manager.find("old")
    assert found.published == (Port(guest=80, host=8080),)
    assert found.mounts == (Volume(path="/srv/data", place="/data"),)
    with pytest.raises(UnavailableError, match="an earlier version of core-infra created it"):
        manager.start("old")
    manager.state.update("00000001", memory=256)
    written = json.loads((tmp_path / FILE).read_text())["containers"]["00000001"]
    assert (written["ports"], written["volumes"]) == ({"8080": 80}, {"/srv/data": "/data"})


def test_a_device_is_no_volume() -> None:
    with pytest.raises(InvalidError, match="neither a directory nor a regular file"):
        shares([Volume(path="/dev/null", place="/x")], by_virtiofs=False)

"""Machines of the manager that several tests share, with a state directory of their own."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import linuxkit_standin as standin
from core_infra.errors import CoreInfraError
from core_infra.vm._cache import cache_root
from core_infra.vm._images.default.image import default_image
from core_infra.vm._images.image import host_arch
from core_infra.vm._manager.manager import LinuxKitManager
from core_infra.vm._manager.record import Container, ContainerStatus
from core_infra.vm._manager.run_options import RunOptions
from core_infra.vm._manager.state_file import State
from core_infra.vm._manager.volumes import can_serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.vm._images.image import Image


@pytest.fixture(scope="session")
def manager() -> Iterator[LinuxKitManager]:
    with tempfile.TemporaryDirectory(prefix="manager-") as directory:
        manager = LinuxKitManager(state=State(Path(directory) / "state"))
        yield manager
        for container in manager.list():
            manager.remove(container.id, force=True)


@pytest.fixture(scope="session")
def default() -> Image:
    return default_image(host_arch(), cache_dir=cache_root())


@pytest.fixture(scope="session")
def virtiofsd() -> None:
    """Skip where this user's machines of the default image can have no volumes."""
    if not can_serve():
        pytest.skip("virtiofsd is not installed, or works for root only")


@pytest.fixture(scope="session")
def shared(
    manager: LinuxKitManager, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:
    """A machine of the default image, detached, with a port and, if possible, a volume."""
    volume = tmp_path_factory.mktemp("vol,ume")
    (volume / "here").write_text("from the host\n")
    volumes = {str(volume): "/mnt/the volume"} if can_serve() else {}
    manager.run("default", RunOptions(name="shared", detach=True, publish=[80], volumes=volumes))
    manager.exec("shared", "true").check()  # that it has booted is remembered
    yield manager.find("shared")
    if manager.find("shared").status is ContainerStatus.RUNNING:
        manager.stop("shared", grace=0)


@pytest.fixture(scope="session")
def linuxkit_like(
    manager: LinuxKitManager, default: Image, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:
    """A machine of a kernel and an initrd with an SSH server, detached."""
    directory = tmp_path_factory.mktemp("standin")
    try:
        root = standin.unpack(standin.PACKAGES, cache_root(), directory / "root")
    except CoreInfraError as error:
        pytest.skip(f"needs Debian's dropbear: {error}")
    yield manager.run(
        standin.make(default, root, directory), RunOptions(name="kit", detach=True, memory=256)
    )
    if manager.find("kit").status is ContainerStatus.RUNNING:
        manager.stop("kit", grace=0)

"""``core_vm_image``: an image is made once, and booted by whatever test takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core_infra.vm import Image
from oci_images import Entry, folder, layer, write_layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm import Bootable
    from pytest_core_infra._vm.factory import MachineFactory

BANNER = "Of the layout\n"


@pytest.fixture(scope="session", params=["default", "layout"])
def system(
    request: pytest.FixtureRequest,
    core_vm_image: Callable[..., Bootable],
    tmp_path_factory: pytest.TempPathFactory,
) -> Image:
    if request.param == "default":
        found = core_vm_image()
    else:
        layout = tmp_path_factory.mktemp("layout")
        entries = [folder("etc"), Entry("etc/issue", data=BANNER.encode())]
        write_layout(layout, [layer(entries)])
        found = core_vm_image(f"oci-layout:{layout}")
        assert core_vm_image(f"oci-layout:{layout}") == found
    assert isinstance(found, Image)
    return found


def test_each_machine_has_the_files_of_its_image(
    system: Image, core_vm_factory: MachineFactory
) -> None:
    machine = core_vm_factory(image=system)
    assert machine.spec.image == system
    has_banner = machine.exec("cat /etc/issue").stdout == BANNER
    assert has_banner is (system.disk is not None)

"""The same installer on several distributions.

``pytest --core-vm examples/gallery/distributions.py``; the first run makes a system of each.
"""

from collections.abc import Callable

import pytest

from core_infra.vm import Bootable
from pytest_core_infra.plugin import MachineFactory

INSTALLER = """\
#!/bin/sh -e
. /etc/os-release
install -d /opt/tool
echo "for $ID $VERSION_ID" >/opt/tool/about
"""


@pytest.fixture(scope="session", params=["debian:12", "debian:13"])
def system(request: pytest.FixtureRequest, core_vm_image: Callable[..., Bootable]) -> Bootable:
    return core_vm_image(request.param)


def test_it_installs(system: Bootable, core_vm_factory: MachineFactory) -> None:
    machine = core_vm_factory(image=system)
    machine.write_text("/root/install.sh", INSTALLER)
    machine.exec("sh -e /root/install.sh", check=True)
    assert machine.read_text("/opt/tool/about").startswith("for debian")

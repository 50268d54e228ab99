"""The same nginx test on several distributions, each with a package or an OCI image of its own.

``pytest --core-vm examples/gallery/distributions.py``; the first run makes a system of each. Ubuntu
needs its keys on the host (``apt-get install ubuntu-keyring``), and Alpine a registry.
"""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from core_infra.errors import UnavailableError
from core_infra.vm import Bootable, Machine
from pytest_core_infra.plugin import MachineFactory

SITE = "server { listen 8080; root /srv/site; }\n"


class System(NamedTuple):
    """A distribution: the address of its image, and its packages."""

    address: str
    packages: tuple[str, ...] = ()


SYSTEMS = {
    "Debian 12": System("debian:12", ("nginx-light",)),
    "Debian 13": System("debian:13", ("nginx-light",)),
    "Ubuntu": System("ubuntu:jammy", ("nginx-light",)),
    "Alpine": System("oci:nginx:1.27-alpine"),
}


@pytest.fixture(scope="session", params=SYSTEMS)
def image(request: pytest.FixtureRequest, core_vm_image: Callable[..., Bootable]) -> Bootable:
    system = SYSTEMS[request.param]
    try:
        return core_vm_image(system.address, packages=system.packages)
    except UnavailableError as error:
        pytest.skip(f"this host cannot have {request.param}: {error}")


@pytest.fixture
def server(image: Bootable, core_vm_factory: MachineFactory) -> Machine:
    machine = core_vm_factory(image=image)
    machine.write_text("/etc/nginx/conf.d/test.conf", SITE)
    machine.write_text("/srv/site/index.html", "a page\n")
    # With systemd it runs already; an OCI image has no program running unless entrypoint=True.
    machine.exec("nginx -s reload || nginx", check=True)
    machine.wait_for_port(8080)
    return machine


def test_it_serves_a_page(server: Machine) -> None:
    done = server.exec("/run/core-infra/bin/wget -qO- http://127.0.0.1:8080/", check=True)
    assert done.stdout == "a page\n"


def test_a_missing_page_is_an_error(server: Machine) -> None:
    done = server.exec("/run/core-infra/bin/wget -qO- http://127.0.0.1:8080/none")
    assert "404 Not Found" in done.stderr


def test_a_wrong_configuration_is_refused_and_the_old_one_serves(server: Machine) -> None:
    server.write_text("/etc/nginx/conf.d/test.conf", "server { listen 8080; root }\n")
    assert server.exec("nginx -s reload").exit_code != 0
    server.exec("/run/core-infra/bin/wget -qO- http://127.0.0.1:8080/", check=True)

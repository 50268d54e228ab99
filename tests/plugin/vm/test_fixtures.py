from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm import BootError, Image
from linuxkit_images import write_busybox
from oci_images import Entry, folder, layer, write_layout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core_infra.vm import Bootable, Machine
    from pytest_core_infra._vm.factory import MachineFactory


def memory_of(machine: Machine) -> int:
    fields = machine.exec("grep MemTotal /proc/meminfo", check=True).stdout.split()
    return int(fields[1]) // 1024


@pytest.mark.core_vm(memory=200, cpus=2)
class TestMarked:
    @pytest.mark.core_vm(memory=96)
    def test_the_closest_marker_counts(self, core_vm: Machine) -> None:
        assert 32 < memory_of(core_vm) < 96
        assert core_vm.exec("nproc").stdout == "2\n"

    def test_a_call_outdoes_the_marker(self, core_vm_factory: MachineFactory) -> None:
        machine = core_vm_factory(memory=144, name="small")
        assert 96 < memory_of(machine) < 144
        assert (machine.name, machine.spec.cpus) == ("small", 2)


def test_a_fixture_and_its_test_share_one_machine(core_vm: Machine, prepared: Machine) -> None:
    assert prepared is core_vm
    assert core_vm.read_text("/tmp/prepared") == "yes"


@pytest.fixture
def prepared(core_vm: Machine) -> Machine:
    core_vm.write_text("/tmp/prepared", "yes")
    return core_vm


def test_errors_reach_the_test(core_vm_factory: MachineFactory, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no-such-image"):
        core_vm_factory(image=tmp_path / "no-such-image")
    with pytest.raises(InvalidError, match="10 MiB"):
        core_vm_factory(memory=10)
    with pytest.raises(BootError, match="did not"):
        core_vm_factory(timeout=0.01, cold=True)


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


FILE = """\
# Mine
services:
  - name: web
    image: {address}
    capabilities: [CAP_NET_BIND_SERVICE]
    command: [/bin/busybox, httpd, -f, -p, "80", -h, /www]
"""


PAGE = "hello from the image"


def test_a_template_and_a_file_become_machines(
    pytester: pytest.Pytester, tmp_path: Path, runs: Path
) -> None:

    page = [folder("www"), Entry("www/index.html", data=PAGE.encode())]
    address = write_busybox(tmp_path / "web", more=page)
    directory = pytester.path / ".core" / "linuxkit"
    directory.mkdir(parents=True)
    (directory / "mine.yml").write_text(FILE.format(address="${WEB}"))
    (pytester.path / "web.yml").write_text(FILE.format(address=address))
    pytester.makepyfile(
        f"""
        import pytest

        WEB = {address!r}

        @pytest.mark.core_vm(template="mine", variables={{"WEB": WEB}})
        def test_by_marker(core_vm):
            assert core_vm.exec("wget -qO- http://127.0.0.1/").stdout == {PAGE!r}

        def test_by_call(core_vm_factory):
            vm = core_vm_factory(image="web.yml")
            assert vm.exec("wget -qO- http://127.0.0.1/").stdout == {PAGE!r}

        def test_what_is_missing_is_named(core_vm_factory):
            with pytest.raises(Exception, match="WEB"):
                core_vm_factory(template="mine")
            with pytest.raises(Exception, match="no template 'other'"):
                core_vm_factory(template="other")
            with pytest.raises(Exception, match="either image="):
                core_vm_factory(template="mine", image="x")
        """
    )
    pytester.runpytest_subprocess("--core-vm", "--core-vm-accel=tcg").assert_outcomes(passed=3)
    assert runs.exists()

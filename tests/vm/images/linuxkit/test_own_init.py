"""A machine whose file names neither a kernel nor an init: ours run its containers."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING

import pytest

from core_infra.vm import Launcher, Machine
from linuxkit_images import write_busybox
from oci_images import Entry, folder

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = """\
volumes:
- {{name: data, image: {image}}}
onboot:
- name: second-by-name
  image: {image}
  command: [sh, -c, 'echo one >>/shared/order; echo said on boot']
- name: first-by-name
  image: {image}
  readonly: true
  command: [sh, -c, 'echo two >>/shared/order; busybox touch /x || echo read-only >>/shared/order']
- name: fails
  image: {image}
  uid: once
  command: [sh, -c, 'busybox id -u >>/shared/id; exit 7']
- name: namespaces
  image: {image}
  net: new
  capabilities: [all]
  command: [sh, -c, 'busybox ip link show veth0 >/shared/link; busybox hostname >>/shared/link']
  runtime:
    mkdir: [/var/made, inside]
    mounts: [{{type: tmpfs, source: tmpfs, destination: /var/mounted, options: [size=1m, nosuid]}}]
    interfaces: [{{name: veth0, add: veth, peer: veth1}}]
    bindNS: {{net: /run/netns/kept}}
onshutdown:
- name: bye
  image: {image}
  command: [sh, -c, 'echo the order was $(busybox cat /shared/order)']
services:
- name: web
  image: {image}
  command: [busybox, httpd, -f, -p, '80', -h, /www]
  capabilities: [CAP_NET_BIND_SERVICE]
- name: flaky
  image: {image}
  command: [sh, -c, 'echo x >>/shared/flaky; echo complaint; exit 3']
- name: once
  image: {image}
  command: [sh, -c, 'echo x >>/shared/once; busybox grep CapEff /proc/self/status >/shared/caps']
- name: volume
  image: {image}
  binds.add: [data:/data]
  command: [sh, -c, 'echo kept >/data/new; exec busybox sleep 10000']
files:
- {{path: etc/hostname, contents: own-name}}
- {{path: var/shared, directory: true, mode: '1777'}}
"""
PAGE = "hello from a service"


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    directory = tmp_path_factory.mktemp("own")
    page = [folder("www"), Entry("www/index.html", data=PAGE.encode())]
    image = write_busybox(directory / "image", label={"binds": ["/var/shared:/shared"]}, more=page)
    file = directory / "own.yml"
    file.write_text(FILE.format(image=image))
    with Launcher(image=file) as launcher:
        yield launcher


@pytest.fixture(scope="module")
def machine(launcher: Launcher) -> Machine:
    return launcher.clone()


def test_containers_of_onboot_run_in_the_order_of_the_file(machine: Machine) -> None:
    order = machine.read_text("/var/shared/order").splitlines()
    assert order == ["one", "two", "read-only"]
    assert machine.read_text("/var/shared/id") == "107\n"  # a number of its own for each
    log = machine.logs()
    assert "said on boot" in log
    assert "002-fails has failed: exit status 7" in log


def test_a_service_is_reached_from_the_host(machine: Machine) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{machine.port(80)}/", timeout=60) as answer:
        assert answer.read().decode() == PAGE


def test_a_container_has_no_capabilities_that_it_was_not_given(machine: Machine) -> None:
    assert machine.read_text("/var/shared/caps").split() == ["CapEff:", "0" * 16]


def test_what_fails_is_started_again_and_what_is_done_is_not(machine: Machine) -> None:
    machine.wait_until_succeeds("[ $(wc -l </var/shared/flaky) -ge 3 ]")
    assert machine.read_text("/var/shared/once") == "x\n"
    assert machine.read_text("/var/log/flaky.log").splitlines()[:2] == ["complaint"] * 2


def test_a_service_that_is_killed_comes_back(launcher: Launcher) -> None:
    with launcher.clone() as own:
        find = "ps | sed -n 's/^ *\\([0-9]*\\) .*[h]ttpd -f.*/\\1/p'"
        before = own.exec(find, check=True).stdout
        own.exec(f"kill -9 {before}", check=True)
        own.wait_until_succeeds("wget -qO- http://127.0.0.1/")
        assert own.exec(find, check=True).stdout != before


def test_a_volume_is_shared_and_its_image_is_not_changed(machine: Machine) -> None:
    machine.wait_for_file("/containers/volumes/data/merged/new")
    assert machine.exec("[ -e /containers/volumes/data/lower/new ]").exit_code == 1
    assert machine.read_text("/containers/volumes/data/merged/www/index.html") == PAGE


def test_what_runtime_json_asks_for_is_prepared(machine: Machine) -> None:
    assert "veth0" in machine.read_text("/var/shared/link")
    assert machine.read_text("/var/shared/link").endswith("own-name\n")
    facts = "[ -d /var/made ] && mount | grep -c 'nsfs.*/run/netns/kept\\|nsfs on /run/netns/kept'"
    assert machine.exec(facts, check=True).stdout.strip() == "1"
    # What was mounted for a container of onboot is gone with it.
    assert "/var/mounted" not in machine.exec("mount", check=True).stdout


def test_the_machine_has_a_name_a_network_and_an_agent(machine: Machine) -> None:
    # A clone has a name of its own; containers have seen that of the file: above.
    assert " src 10.0.2.15" in machine.exec("ip route", check=True).stdout
    # Without IPv6, which nothing answers here: a clone would announce its new addresses in vain.
    assert "eth0" not in machine.read_text("/proc/net/if_inet6")
    assert machine.exec("oci-runtime exec volume busybox cat /data/new", check=True).stdout == (
        "kept\n"
    )


def test_poweroff_runs_what_is_for_it(launcher: Launcher) -> None:
    own = launcher.clone()
    own.exec("poweroff")
    own.console.expect("going down", timeout=60)
    own.console.expect("the order was one two read-only", timeout=60)
    own.console.expect("reboot: Power down", timeout=60)
    launcher.discard(own)


def test_a_machine_that_its_agent_powers_off_runs_what_is_for_it(launcher: Launcher) -> None:
    own = launcher.clone()
    own.poweroff()
    log = own.logs()
    assert "the order was one two read-only" in log
    assert "reboot: Power down" in log
    launcher.discard(own)

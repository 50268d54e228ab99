"""PostgreSQL, redis and nginx, installed from Debian packages: a machine for each test.

The first run makes an image and boots it, which takes minutes without KVM; later runs start with
clones, in which all three servers are already running. So this file is run by its name:
``pytest --core-vm examples/gallery/packages.py``.
"""

import pytest

from core_infra.vm import Machine

pytestmark = pytest.mark.core_vm(packages=["postgresql", "redis-server", "nginx-light"])


@pytest.mark.parametrize("number", range(10))
def test_a_database_of_its_own(core_vm: Machine, number: int) -> None:
    filled = f"create table orders (id int); insert into orders select generate_series(1, {number})"
    counted = "select count(*) from orders"
    # One psql for both: on Debian it is a Perl script, whose start is most of the time.
    count = core_vm.exec(["psql", "-qAt", "-c", filled, "-c", counted], user="postgres", check=True)
    assert int(count.stdout) == number


@pytest.mark.parametrize("number", range(10))
def test_a_cache_of_its_own(core_vm: Machine, number: int) -> None:
    assert core_vm.exec("redis-cli dbsize", check=True).stdout == "0\n"
    core_vm.exec(["redis-cli", "set", "number", str(number)], check=True)
    assert core_vm.exec("redis-cli get number", check=True).stdout == f"{number}\n"


@pytest.mark.parametrize("number", range(9))
def test_a_page_of_its_own(core_vm: Machine, number: int) -> None:
    core_vm.write_text("/var/www/html/index.html", f"page {number}\n")
    request = r"printf 'GET / HTTP/1.0\r\n\r\n' >&3; cat <&3"
    answer = core_vm.exec(["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/80; {request}"], check=True)
    assert answer.stdout.endswith(f"page {number}\n")


def test_a_server_that_is_killed_is_started_again(core_vm: Machine) -> None:
    core_vm.exec("kill -9 $(systemctl show --value -p MainPID redis-server)", check=True)
    core_vm.wait_until_succeeds("redis-cli ping")

"""Time that passes on request: an hour takes seconds, and all that is due meanwhile happens.

The machines of this file have virtual time. It passes only while a call waits for the machine.
"""

import pytest

from core_infra.vm import Machine

pytestmark = pytest.mark.core_vm(time="virtual")

RENEW = "while :; do echo $(($(date +%s) + 600)) >/tmp/token; sleep 300; done"
IS_VALID = '[ "$(date +%s)" -lt "$(cat /tmp/token)" ]'


def test_cron_runs_its_jobs(core_vm: Machine) -> None:
    core_vm.write_text("/tmp/jobs", "*/20 * * * * date +%M >>/tmp/ran\n")
    core_vm.exec("mkdir -p /var/spool/cron/crontabs; crontab /tmp/jobs && crond", check=True)
    core_vm.clock.advance(hours=1)
    assert set(core_vm.read_text("/tmp/ran").split()) == {"00", "20", "40"}


def test_a_token_is_renewed_before_it_expires(core_vm: Machine) -> None:
    core_vm.exec(f"({RENEW}) >/dev/null 2>&1 & echo $! >/tmp/pid", check=True)
    core_vm.clock.advance(minutes=12)
    core_vm.exec(IS_VALID, check=True)  # it was renewed after 5 minutes, and after 10
    core_vm.exec("kill $(cat /tmp/pid)", check=True)
    core_vm.clock.advance(minutes=1)
    core_vm.exec(IS_VALID, check=True)
    core_vm.clock.advance(minutes=10)
    assert core_vm.exec(IS_VALID).exit_code == 1


def test_a_lock_is_free_when_its_holder_stops_to_renew_it(core_vm: Machine) -> None:
    # Its holder renews it each 20 seconds; after ten minutes without, it is free.
    core_vm.exec("(while :; do touch /tmp/lock; sleep 20; done) & echo $! >/tmp/pid", check=True)
    is_held = "[ $(($(date +%s) - $(stat -c %Y /tmp/lock))) -lt 600 ]"
    core_vm.clock.advance(minutes=20)
    core_vm.exec(is_held, check=True)
    core_vm.exec("kill -STOP $(cat /tmp/pid)", check=True)
    core_vm.exec("sleep 60", check=True)  # virtual, too
    core_vm.exec(is_held, check=True)
    core_vm.clock.advance(minutes=10)
    assert core_vm.exec(is_held).exit_code == 1

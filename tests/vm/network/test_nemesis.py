"""The nemesis, on real machines."""

from core_infra.testing import Nemesis
from core_infra.vm import Launcher, Status
from vm.network.conftest import Pair, reaches


def test_each_fault_harms_a_machine_and_is_undone(launcher: Launcher, pair: Pair) -> None:
    net, a, b = pair
    nemesis = Nemesis([a, b], [net], roles={"second": lambda: b})
    with nemesis.partition():
        assert not reaches(a, "b")
    with nemesis.isolate("second"):
        assert net.active_faults() == ["isolate b"]
        assert not reaches(a, "b")
    with nemesis.pause("second"):
        assert not reaches(a, "b")
    assert reaches(a, "b")

    def seconds() -> int:
        return int(b.exec("date +%s", check=True).stdout)

    now = seconds()
    with nemesis.jump(b, -5000), nemesis.skew(b, 1.1):
        assert seconds() < now - 1000
    assert seconds() >= now
    c = launcher.clone(name="c", networks=[net])
    with Nemesis([a, c], [net]).kill("c"):
        assert c.status is Status.OFF
        assert not reaches(a, "c")
    c.exec("true", check=True)
    launcher.discard(c)

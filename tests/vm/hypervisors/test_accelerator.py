"""Which accelerator is used, and what is remembered of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from core_infra.errors import InvalidError, UnavailableError
from core_infra.vm import Launcher
from core_infra.vm._hypervisors import accelerator
from core_infra.vm._hypervisors.accelerator import choose
from core_infra.vm._hypervisors.hypervisor import Accelerator


class Host:
    """A host whose KVM works or not, and counts how often that was tried."""

    def __init__(self, cache: Path, why_not: str | None) -> None:
        self.cache = cache
        self.why_not = why_not
        self.probes = 0
        self.identity = "qemu 7.2"

    def probe(self, name: str, limit: float) -> str | None:
        assert name == "kvm"
        assert limit > 0
        self.probes += 1
        return self.why_not

    def choose(self, requested: str = "auto") -> Accelerator:
        return choose(
            requested,
            probe=self.probe,
            identity=lambda: self.identity,
            cache_dir=self.cache,
            progress=lambda _line: None,
        )


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], Host]:
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(accelerator, "_KVM", device)
    monkeypatch.setattr("sys.platform", "linux")
    return lambda why_not: Host(tmp_path / "cache", why_not)


def test_kvm_is_used_when_a_guest_boots(host: Callable[[str | None], Host]) -> None:
    assert host(None).choose().name == "kvm"


def test_emulation_otherwise_with_the_reason(host: Callable[[str | None], Host]) -> None:
    chosen = host("failed to set MSR").choose()
    assert chosen.name == "tcg"
    assert "failed to set MSR" in chosen.reason


def test_the_verdict_is_remembered(host: Callable[[str | None], Host]) -> None:
    first = host("hangs")
    assert first.choose() == first.choose()
    assert first.probes == 1
    second = host(None)
    assert second.choose().name == "tcg"
    assert second.probes == 0


def test_another_hypervisor_is_tried_again(host: Callable[[str | None], Host]) -> None:
    host("hangs").choose()
    updated = host(None)
    updated.identity = "qemu 9"
    assert updated.choose().name == "kvm"


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"why_not"'])
def test_a_damaged_memory_is_made_again(host: Callable[[str | None], Host], damage: str) -> None:
    first = host("hangs")
    first.choose()
    [path] = (first.cache / "accelerators").glob("*.json")
    path.write_text(damage)
    assert host(None).choose().name == "kvm"


def test_what_must_be_used_and_does_not_work_is_an_error(
    host: Callable[[str | None], Host],
) -> None:
    with pytest.raises(UnavailableError, match=r"kvm(?s:.*)hangs"):
        host("hangs").choose("kvm")
    assert host("hangs").choose("tcg").name == "tcg"
    with pytest.raises(UnavailableError, match="hvf"):
        host(None).choose("hvf")
    with pytest.raises(InvalidError, match="warp"):
        host(None).choose("warp")


def test_without_the_device_nothing_is_booted(
    host: Callable[[str | None], Host], tmp_path: Path
) -> None:
    ours = host(None)
    (tmp_path / "kvm").unlink()
    assert "there is no" in ours.choose().reason
    assert ours.probes == 0


def test_this_hosts_real_verdict_is_one_of_both() -> None:
    with Launcher() as launcher:
        assert launcher.accelerator.name in {"kvm", "tcg"}
        assert launcher.accelerator.reason

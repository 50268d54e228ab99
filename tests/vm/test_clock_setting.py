"""What a guest's clock shows that was put wrong on purpose."""

from core_infra.vm._vmm_process import ClockSetting


def test_a_wrong_rate_adds_up() -> None:
    hour = 3600 * 10**9
    assert ClockSetting().at(hour) == hour
    assert ClockSetting(ahead=5, since=7).at(hour) == hour + 5
    assert ClockSetting(ahead=-hour, rate=1.01, since=hour).at(2 * hour) == hour + hour // 100
    assert ClockSetting(rate=0.9).at(hour) == hour * 9 // 10

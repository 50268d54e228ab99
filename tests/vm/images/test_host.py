"""What of this host is in its image."""

import pytest

from core_infra.vm._images import host


@pytest.mark.parametrize(
    "path",
    [
        *("root", "home", "home/user/.ssh", "etc/shadow", "etc/shadow-", "etc/ssl/private/a.key"),
        *("etc/ssh/ssh_host_ed25519_key", "etc/sudoers.d/x", "etc/machine-id", "var/lib/mysql"),
        *("proc", "run/secrets", "etc/apt/auth.conf.d/token", "etc/wireguard/wg0.conf", "tmp"),
    ],
)
def test_secrets_and_what_belongs_to_the_running_host_stay_out(path: str) -> None:
    parts = path.encode().split(b"/")
    ways = [b"/".join(parts[: number + 1]) for number in range(len(parts))]
    assert any(host._why_not(way) for way in ways)


@pytest.mark.parametrize(
    "path",
    [
        "usr",
        "usr/bin/python3",
        "etc/passwd",
        "etc/ssh/sshd_config",
        "opt/app/bin/x",
        "var/lib/dpkg",
    ],
)
def test_what_is_installed_is_in_it(path: str) -> None:
    parts = path.encode().split(b"/")
    ways = [b"/".join(parts[: number + 1]) for number in range(len(parts))]
    assert not any(host._why_not(way) for way in ways)

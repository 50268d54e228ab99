"""What of this host is in its image."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from core_infra.vm import Image, Launcher
from core_infra.vm._cache import cache_root
from core_infra.vm._images import host
from core_infra.vm._images.host import LEFT_OUT
from core_infra.vm._images.host_secrets import BELONGS_HERE, HOLDS_KEY, why_private

PRIVATE = (BELONGS_HERE, HOLDS_KEY, "not every user may read it")
MADE_ANEW = {
    "/etc/fstab",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/machine-id",
    "/etc/resolv.conf",
    "/etc/shadow",
}
FIND = 'while read -r path; do [ ! -e "$path" ] || echo "$path"; done'


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


KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n"


def put(top: Path, path: str, text: str) -> list[bytes]:
    """Write a file of a host; return its path and those of the directories above it."""
    (top / path).parent.mkdir(parents=True)
    (top / path).write_text(text)
    parts = path.encode().split(b"/")
    return [b"/".join(parts[: number + 1]) for number in range(len(parts))]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("etc/nginx/site.key", KEY),
        ("etc/app/config", f"[tls]\n  {KEY}"),
        ("opt/app/tls/cert.pem", f"-----BEGIN CERTIFICATE-----\n{KEY}"),
        ("etc/apt/sources.list", "deb https://joe:secret@packages.example/debian stable main\n"),
        ("etc/pip.conf", "[global]\nindex-url=https://token:secret@pypi.example/simple\n"),
        ("usr/local/etc/npmrc", "//registry.example/:_authToken=secret\n"),
        ("opt/app/.netrc", "machine example login joe password secret\n"),
        ("opt/app/.env", "PASSWORD=secret\n"),
        ("opt/app/store.p12", "\0"),
        ("etc/cluster.yaml", "  client-key-data: LS0tLS1CRUdJTg==\n"),
        ("etc/hosts", "127.0.1.1 thishost\n"),
        ("etc/cloud/cloud.cfg.d/99-installer.cfg", "password: secret\n"),
    ],
)
def test_keys_and_passwords_that_every_user_may_read_stay_out(
    tmp_path: Path, path: str, text: str
) -> None:
    ways = put(tmp_path, path, text)
    assert any(why_private(way, top=os.fsencode(tmp_path)) for way in ways)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("etc/wgetrc", "# http_proxy = http://user:password@proxy.example\n"),
        ("etc/apt/keyrings/example.key", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n"),
        ("etc/ssl/certs/ca.pem", "-----BEGIN CERTIFICATE-----\n"),
        ("etc/apt/sources.list", "deb http://deb.debian.org:80/debian stable main\n"),
        ("etc/hosts.allow", ""),
        ("opt/app/main.py", f"EXAMPLE = '''{KEY}'''"),
        ("usr/lib/python3/tests/server.pem", KEY),
        ("opt/app/.env/bin", ""),
    ],
)
def test_what_only_looks_like_a_secret_is_in_it(tmp_path: Path, path: str, text: str) -> None:
    ways = put(tmp_path, path, text)
    assert not any(why_private(way, top=os.fsencode(tmp_path)) for way in ways)


@pytest.mark.soak  # it reads and writes all that is installed here
def test_its_programs_run_in_a_machine_without_its_secrets(launcher: Launcher) -> None:
    counted = ["du", "--summarize", "--one-file-system", "--block-size=1", "/usr", "/opt"]
    sizes = subprocess.run(counted, stdout=subprocess.PIPE, text=True, check=False).stdout
    needed = sum(int(line.split()[0]) for line in sizes.splitlines())
    if shutil.disk_usage(cache_root()).free < 1.5 * needed:
        pytest.skip(f"there is no room for a copy of this host: {needed >> 30} GiB")
    image = launcher.make_image("host")
    assert isinstance(image, Image)
    try:
        machine = launcher.clone(image)
        release = Path("/etc/os-release").read_text()
        assert machine.read_text("/etc/os-release") == release
        assert machine.exec("python3 -c 'print(6 * 7)'", check=True).stdout == "42\n"
        listed = (image.kernel.parent / LEFT_OUT).read_text().splitlines()
        left_out = dict(line.split("\t") for line in listed)
        secrets = [path for path, why in left_out.items() if why in PRIVATE]
        assert "/etc/shadow" in secrets
        found = machine.exec(FIND, input="\n".join(secrets) + "\n", check=True).stdout
        assert set(found.splitlines()) <= MADE_ANEW
        passwords = {line.split(":")[1] for line in machine.read_text("/etc/shadow").splitlines()}
        assert passwords == {"*"}
        assert machine.exec("find /root /home -mindepth 1", check=True).stdout == ""
        launcher.discard(machine)
    finally:
        shutil.rmtree(image.kernel.parent)  # it is as large as this host

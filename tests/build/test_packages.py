"""Packages for Debian and Fedora: reproducible, and accepted by dpkg and rpm."""

from __future__ import annotations

import itertools
import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from build_samples import need
from build_support import accepts
from core_infra.build._artifact import Target
from core_infra.build._config.load import load_config
from core_infra.build._errors import ConfigError
from core_infra.build._packages.package import package_version
from core_infra.build._pipeline import carry_out
from core_infra.build._preflight import make_plan
from core_infra.build._verify import verify_release
from core_infra.medium._local import LocalMedium
from core_infra.medium._memory import MemoryMedium

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.vm import Machine

TARGETS = [Target("linux", "amd64"), Target("linux", "arm64"), Target("windows", "amd64")]
SCRIPT = (
    'printf "#!/bin/sh\\necho hello\\n" > "{{.OUTPUT_DIR}}/greet"; chmod +x "{{.OUTPUT_DIR}}/greet"'
)
PACKAGES = {
    "formats": ["deb", "rpm"],
    "maintainer": "Ann Other <ann@example.org>",
    "homepage": "https://example.org",
    "license": "MIT",
    "depends": {"deb": ["libc6 (>= 2.3)"]},
    "files": {"greet.conf": "/etc/greet/greet.conf"},
}


def project(directory: Path, packages: object = PACKAGES) -> Path:
    need("task", "dpkg-deb", "rpmbuild")
    (directory / ".core").mkdir(parents=True)
    settings = {"project": {"name": "Greet", "description": "Greets you"}, "packages": packages}
    (directory / ".core" / "build.yaml").write_text(json.dumps(settings))
    (directory / "Taskfile.yml").write_text(
        json.dumps({"version": "3", "tasks": {"build": {"cmds": [SCRIPT]}}})
    )
    for name in ("LICENSE", "greet.conf"):
        (directory / name).write_text(name)
    return directory


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a release with packages."""
    app = project(tmp_path_factory.mktemp("packages") / "app")
    plan = make_plan(app, goal="release", version="v1.2.3-rc.1", targets=TARGETS)
    return carry_out(plan, twice=True).directory


def test_packages_are_part_of_the_release(packages: Path) -> None:
    names = [path.name for path in packages.iterdir() if path.suffix in {".deb", ".rpm"}]
    assert sorted(names) == [
        "greet_1.2.3-rc.1_aarch64.rpm",
        "greet_1.2.3-rc.1_amd64.deb",
        "greet_1.2.3-rc.1_arm64.deb",
        "greet_1.2.3-rc.1_x86_64.rpm",
    ]
    assert set(names) < set((packages / "CHECKSUMS.txt").read_text().split())
    verify_release(LocalMedium(), str(packages))


def test_dpkg_installs_it(packages: Path, tmp_path: Path) -> None:
    deb = packages / "greet_1.2.3-rc.1_amd64.deb"
    fields = accepts("dpkg-deb", "--field", deb)
    assert "Package: greet\nVersion: 1.2.3~rc.1\nArchitecture: amd64\n" in fields
    assert "Maintainer: Ann Other <ann@example.org>\nInstalled-Size: 1\n" in fields
    assert "Depends: libc6 (>= 2.3)" in fields
    listed = accepts("dpkg-deb", "--contents", deb)
    assert {line.split()[1] for line in listed.splitlines()} == {"root/root"}
    database = tmp_path / "var/lib/dpkg"
    for name in ("info", "updates"):
        (database / name).mkdir(parents=True)
    (database / "status").write_text("")
    options = ("--force-not-root", "--force-depends", "--force-architecture", "--log=/dev/null")
    accepts("dpkg", f"--root={tmp_path}", *options, "-i", deb)
    assert accepts(tmp_path / "usr/bin/greet") == "hello\n"
    assert (tmp_path / "usr/share/doc/greet/LICENSE").read_text() == "LICENSE"
    assert accepts("dpkg", f"--root={tmp_path}", "--verify", "greet") == ""
    conffiles = ("dpkg-query", f"--admindir={database}", "-W", "-f=${Conffiles}", "greet")
    assert "/etc/greet/greet.conf" in accepts(*conffiles)


def test_rpm_accepts_it(packages: Path, tmp_path: Path) -> None:
    package = packages / "greet_1.2.3-rc.1_aarch64.rpm"
    accepts("rpm", "--checksig", "--nosignature", package)
    query = "%{NAME} %{VERSION} %{ARCH} %{LICENSE} %{SUMMARY} %{BUILDHOST} %{BUILDTIME}"
    shown = accepts("rpm", "-qp", "--nosignature", "--queryformat", query, package)
    assert shown == "greet 1.2.3~rc.1 aarch64 MIT Greets you core-infra 315532800"
    assert accepts("rpm", "-qpc", "--nosignature", package) == "/etc/greet/greet.conf\n"
    query = "[%{FILEMODES:perms} %{FILEUSERNAME} %{FILEGROUPNAME} %{FILENAMES}\n]"
    listed = accepts("rpm", "-qp", "--nosignature", "--queryformat", query, package)
    assert listed.splitlines() == [  # its own directories as well, which are removed with it
        "drwxr-xr-x root root /etc/greet",
        "-rw-r--r-- root root /etc/greet/greet.conf",
        "-rwxr-xr-x root root /usr/bin/greet",
        "drwxr-xr-x root root /usr/share/doc/greet",
        "-rw-r--r-- root root /usr/share/doc/greet/LICENSE",
    ]
    unpack = f"rpm2cpio '{package}' | cpio -id --quiet"
    if subprocess.run(["sh", "-c", "command -v cpio"], capture_output=True, check=False).returncode:
        pytest.skip("needs the program cpio")
    subprocess.run(["sh", "-c", unpack], cwd=tmp_path, check=True)
    assert accepts(tmp_path / "usr/bin/greet") == "hello\n"


def test_versions_have_the_order_of_distributions() -> None:
    versions = ["1.0-rc.1", "v1.0", "v1.0-3-gabcdef0", "v1.0-3-gabcdef0-dirty", "v1.1"]
    in_order = [package_version(one) for one in versions]
    for one, other in itertools.pairwise(in_order):
        accepts("dpkg", "--compare-versions", one, "lt", other)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"formats": ["deb"]}, "packages.maintainer: missing field"),
        ({"formats": ["rpm"]}, "packages.license: missing field"),
        ({"maintainer": "me"}, "a name and an address"),
        ({"formats": ["apk"]}, "one of deb, rpm"),
        ({"files": {"a": "etc/a"}}, "absolute path of a file"),
        ({"files": {"../a": "/etc/a"}}, "inside the project"),
        ({"files": {"a": "/etc/../a"}}, "absolute path of a file"),
    ],
)
def test_mistakes_are_reported(given: object, why: str) -> None:
    medium = MemoryMedium()
    medium.write_text(".core/build.yaml", json.dumps({"packages": given}))
    with pytest.raises(ConfigError, match=why):
        load_config(medium, ".")


def test_problems_are_known_before_the_build(tmp_path: Path) -> None:
    app = project(tmp_path / "app", {**PACKAGES, "files": {"missing": "/etc/a"}})
    plan = make_plan(app, goal="package", targets=[Target("linux", "mips")])
    for text in ("deb has no name for", "must start with a digit", "missing does not exist"):
        assert [one for one in plan.problems if text in one], text
    assert not [one for one in make_plan(app).problems if "packages" in one]


@pytest.mark.long
@pytest.mark.core_vm(image="debian:12")
def test_a_package_is_installed_in_a_machine(packages: Path, core_vm: Machine) -> None:
    deb = packages / "greet_1.2.3-rc.1_amd64.deb"
    core_vm.push(str(deb), "/tmp/greet.deb")
    core_vm.exec("dpkg -i /tmp/greet.deb", check=True)
    assert core_vm.exec("greet", check=True).stdout == "hello\n"
    core_vm.exec("dpkg --purge greet", check=True)
    assert core_vm.exec("command -v greet").exit_code != 0

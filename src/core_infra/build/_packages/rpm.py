"""Packages for Fedora, openSUSE and their like, by rpmbuild."""

from __future__ import annotations

import shutil
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from core_infra.build._signing.tool import failed, run_tool

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.build._packages.package import Package

RPM_ARCHITECTURES = {
    "amd64": "x86_64",
    "arm64": "aarch64",
    "arm": "armv7hl",
    "armv6": "armv6hl",
    "386": "i686",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
    "loong64": "loongarch64",
}

_SPEC = """\
Name: {name}
Version: {version}
Release: 1
Summary: {summary}
License: {license}
{url}{requires}
%description
{summary}

%install
mkdir -p %{{buildroot}}
cp -a {root}/. %{{buildroot}}/

%files
{files}
"""


def build_rpm(package: Package, place: Path, path: Path) -> None:
    """Build a package that is the same on every host.

    Args:
        package: its description, with its files.
        place: a directory for temporary files.
        path: the file to write.

    Raises:
        SigningError: rpmbuild failed.
    """
    settings = package.settings
    spec = place / f"{package.name}.spec"
    spec.write_text(
        _SPEC.format(
            name=package.name,
            version=package.version,
            summary=_literal(package.summary),
            license=_literal(settings.license),
            url=f"URL: {_literal(settings.homepage)}\n" if settings.homepage else "",
            requires="".join(f"Requires: {_literal(one)}\n" for one in settings.rpm_depends),
            root=package.root,
            files="\n".join([*_own_directories(package), *map(_listed, package.files)]),
        )
    )
    macros = {
        "_topdir": str(place / "rpm"),
        "_rpmdir": str(place / "made"),
        "_build_name_fmt": "package.rpm",
        "_buildhost": "core-infra",
        "use_source_date_epoch_as_buildtime": "1",
        "clamp_mtime_to_source_date_epoch": "1",
        "source_date_epoch_from_changelog": "0",
        "_binary_payload": "w6.xzdio",
        # The programs are shipped as they were built.
        "debug_package": "%{nil}",
        "__os_install_post": "%{nil}",
        "_build_id_links": "none",
    }
    argv = ["rpmbuild", "-bb", "--quiet", "--target", f"{package.arch}-linux"]
    for name, value in macros.items():
        argv += ["--define", f"{name} {value}"]
    ran = run_tool([*argv, str(spec)], env={"SOURCE_DATE_EPOCH": str(package.epoch)})
    if ran.exit_code:
        raise failed(f"rpmbuild could not build {path.name}", argv, ran)
    shutil.move(place / "made" / "package.rpm", path)


def _own_directories(package: Package) -> list[str]:
    """The directories of no other package, which rpm removes with it only if they are listed."""
    parents = {parent for name in package.files for parent in PurePosixPath(name).parents}
    own = sorted(parent for parent in parents if package.name in parent.parts)
    return [f'%dir "{_literal(str(one))}"' for one in own]


def _listed(name: str) -> str:
    kind = "%config(noreplace) " if name.startswith("/etc/") else ""
    kind = "%doc " if name.startswith("/usr/share/doc/") else kind
    return f'{kind}"{_literal(name)}"'


def _literal(text: str) -> str:
    return text.replace("%", "%%")

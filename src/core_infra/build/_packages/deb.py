"""Packages for Debian, by dpkg-deb."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from core_infra.build._signing.tool import failed, run_tool

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.build._packages.package import Package

DEB_ARCHITECTURES = {
    "amd64": "amd64",
    "arm64": "arm64",
    "arm": "armhf",
    "armv5": "armel",
    "386": "i386",
    "ppc64le": "ppc64el",
    "riscv64": "riscv64",
    "s390x": "s390x",
    "loong64": "loong64",
}


def build_deb(package: Package, place: Path, path: Path) -> None:
    """Build a package that is the same on every host.

    Args:
        package: its description, with its files.
        place: a directory for temporary files.
        path: the file to write.

    Raises:
        SigningError: dpkg-deb failed.
    """
    del place
    control = package.root / "DEBIAN"
    size = sum((package.root / name[1:]).stat().st_size for name in package.files)
    sums = [_sum(package.root, name[1:]) for name in package.files]
    settings = [name for name in package.files if name.startswith("/etc/")]
    control.mkdir()
    (control / "control").write_text(_control(package, size))
    (control / "md5sums").write_text("".join(sums))
    if settings:
        (control / "conffiles").write_text("".join(f"{name}\n" for name in settings))
    for one in (*control.iterdir(), control):
        one.chmod(0o755 if one == control else 0o644)
        os.utime(one, (package.epoch, package.epoch))
    # More threads would give other bytes.
    env = {"SOURCE_DATE_EPOCH": str(package.epoch), "DPKG_DEB_THREADS_MAX": "1"}
    argv = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(package.root), str(path)]
    ran = run_tool(argv, env=env)
    if ran.exit_code:
        raise failed(f"dpkg-deb could not build {path.name}", argv, ran)


def _control(package: Package, size: int) -> str:
    settings = package.settings
    fields = {
        "Package": package.name,
        "Version": package.version,
        "Architecture": package.arch,
        "Maintainer": settings.maintainer,
        "Installed-Size": str(-(-size // 1024)),
        "Depends": ", ".join(settings.deb_depends),
        "Section": "utils",
        "Priority": "optional",
        "Homepage": settings.homepage,
        "Description": package.summary,
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value)


def _sum(root: Path, name: str) -> str:
    digest = hashlib.md5((root / name).read_bytes(), usedforsecurity=False).hexdigest()
    return f"{digest}  {name}\n"

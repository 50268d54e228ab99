"""Releases of Debian and Ubuntu by name or number: ``debian:12``, ``ubuntu:jammy``."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass

from core_infra.errors import InvalidError

VERSIONS = {
    "debian": {"11": "bullseye", "12": "bookworm", "13": "trixie", "14": "forky"},
    "ubuntu": {"20.04": "focal", "22.04": "jammy", "24.04": "noble", "26.04": "resolute"},
}
"""The codename of each release by its number, by distribution."""

_CODENAME = re.compile(r"[a-z][a-z0-9-]{1,30}")


@dataclass(frozen=True)
class Release:
    """A release of a distribution.

    Attributes:
        distribution: ``debian`` or ``ubuntu``.
        codename: its name in the archive, such as ``bookworm``.
    """

    distribution: str
    codename: str

    def __str__(self) -> str:
        return f"{self.distribution}:{self.codename}"


def find_release(address: str = "", suite: str | None = None) -> Release:
    """The release that an address and a suite name; without both, this host's.

    Args:
        address: such as ``debian``, ``debian:12``, ``debian:trixie`` or ``ubuntu:22.04``.
        suite: a codename, such as ``trixie`` or ``jammy``.

    Raises:
        InvalidError: the release is not known, or both name another one.
    """
    distribution, _, version = address.partition(":")
    host = host_release()
    if suite is not None and not _CODENAME.fullmatch(str(suite)):
        raise InvalidError(
            f"{suite!r} is not the name of a release",
            todo="Name it as its archive does: bookworm, trixie, jammy.",
        )
    if not version and suite is None:
        if host is not None and distribution in {"", host.distribution}:
            return host
        if not distribution:
            raise InvalidError(
                "this host is neither Debian nor Ubuntu, so a release must be named",
                todo="Name one, such as image='debian:12'.",
            )
        return Release(distribution, list(VERSIONS[distribution].values())[-2])
    if not version:
        return Release(distribution or _distribution_of(str(suite), host), str(suite))
    found = _by_version(distribution, version)
    if suite is not None and suite != found.codename:
        raise InvalidError(f"{address} is {found.codename}, and the suite is {suite}")
    return found


def host_release() -> Release | None:
    """This host's release; None if it is neither Debian nor Ubuntu, nor derived from one."""
    try:
        facts = platform.freedesktop_os_release()
    except OSError:
        return None
    for distribution in (facts["ID"], *facts.get("ID_LIKE", "").split()):
        if distribution in VERSIONS:
            field = f"{distribution.upper()}_CODENAME"
            codename = facts.get(field) or facts.get("VERSION_CODENAME")
            return Release(distribution, codename or "sid")
    return None


def _by_version(distribution: str, version: str) -> Release:
    known = VERSIONS[distribution]
    if version in known:
        return Release(distribution, known[version])
    if _CODENAME.fullmatch(version):
        return Release(distribution, version)
    listed = ", ".join(f"{number} ({name})" for number, name in known.items())
    raise InvalidError(
        f"there is no release {version!r} of {distribution.capitalize()}",
        todo=f"Choose one of {listed}, or another by its codename.",
    )


def _distribution_of(codename: str, host: Release | None) -> str:
    for distribution, known in VERSIONS.items():
        if codename in known.values():
            return distribution
    return "debian" if host is None else host.distribution

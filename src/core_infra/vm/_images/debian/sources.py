"""Where apt gets the packages of a release from: this host's own sources, or what is like them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.errors import UnavailableError
from core_infra.vm._images.debian.release import Release, host_release
from core_infra.vm._images.programs import run

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYRINGS = {
    "debian": ("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"),
    "ubuntu": ("/usr/share/keyrings/ubuntu-archive-keyring.gpg", "ubuntu-keyring"),
}
_PORTS = "http://ports.ubuntu.com/ubuntu-ports"
_ALIASES = ("stable", "testing", "unstable")


def sources_of(release: Release, architecture: str) -> str | None:
    """The content of a ``.sources`` file for a release; None: this host's own sources have it.

    Args:
        release: the release.
        architecture: Debian's name of it.

    Raises:
        UnavailableError: this host has no keys for the release.
    """
    host = host_release()
    if release == host:
        return None
    keyring, package = KEYRINGS[release.distribution]
    if not Path(keyring).is_file():
        raise UnavailableError(
            f"cannot get the packages of {release}",
            why=f"this host has no keys to verify them by: there is no file {keyring}",
            todo=f"Install them: apt-get install {package}",
        )
    like = list(_like_host(release, host)) if host is not None else []
    return "\n".join(like) if like else default_sources(release, architecture)


def default_sources(release: Release, architecture: str) -> str:
    """The content of a ``.sources`` file for a release with its public mirrors."""
    keyring, _ = KEYRINGS[release.distribution]
    name = release.codename
    if release.distribution == "debian":
        parts = [("http://deb.debian.org/debian", f"{name} {name}-updates", "main")]
        parts.append(("http://deb.debian.org/debian-security", f"{name}-security", "main"))
        if name in {"sid", "unstable"}:
            parts = [("http://deb.debian.org/debian", name, "main")]
    else:
        uri = "http://archive.ubuntu.com/ubuntu" if architecture == "amd64" else _PORTS
        suites = f"{name} {name}-updates {name}-security"
        parts = [(uri, suites, "main universe")]
    return "\n".join(_stanza(uri, suites, components, keyring) for uri, suites, components in parts)


def _like_host(release: Release, host: Release) -> Iterator[str]:
    """Yield the host's own sources of its release, for another one: so its mirrors are used."""
    if release.distribution != host.distribution:
        return
    form = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
    keyring, _ = KEYRINGS[release.distribution]
    # Without this option, a repository whose lists have not been fetched yet is missing.
    targets = ["apt-get", "indextargets", "--no-release-info"]
    listed = run([*targets, "--format", form, "Created-By: Packages"])
    for line in dict.fromkeys(listed.splitlines()):
        uri, suite, component = line.rsplit("|", 2)
        first, dash, pocket = suite.partition("-")
        if first == host.codename or (first in _ALIASES and release.distribution == "debian"):
            wanted = f"{release.codename}{dash}{pocket}"
            yield _stanza(uri, wanted, component, keyring)


def _stanza(uri: str, suites: str, components: str, keyring: str) -> str:
    return (
        f"Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: {components}\n"
        f"Signed-By: {keyring}\n"
    )

"""Gets Debian and Ubuntu packages as an ordinary user, without installing them.

apt's chain of signatures holds: only packages of signed repositories are taken, and each file is
checked against the hash in the signed index, by apt and once more here.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core_infra.errors import (
    CommandFailedError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from core_infra.vm._images.programs import USE_OWN_IMAGE, require_programs, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

OPTIONS = (
    "APT::Get::AllowUnauthenticated=false",
    "Acquire::AllowInsecureRepositories=false",
    "Acquire::AllowDowngradeToInsecureRepositories=false",
    "Acquire::Retries=2",
    # As root, apt would download as the user _apt, which cannot write to our directories.
    "APT::Sandbox::User=root",
)
"""Options of apt with which it takes no package that is not signed, and needs no root."""

# A meta package depends on the concrete kernel, which depends on its modules where these are a
# package of their own. In Debian 14 the built-in modules and the kernel's file are separate, too.
_KERNEL_PART = re.compile(r"(?:^|,)\s*(linux-(?:image|modules|binary|base)-\d[^\s,(|:]*)")
_LIBRARY = re.compile(r"(?:^|,)\s*(lib[a-z0-9][^\s,(|:]*)")
NO_NETWORK = re.compile(
    r"Temporary failure|(?:Could not|Unable to) (?:resolve|connect)|Network is unreachable"
    r"|timed out|Connection (?:failed|refused)|Cannot initiate the connection"
)
"""What apt prints if it cannot reach a repository."""

_MISMATCH = "The package {0.name} {0.version} differs from its index"


@dataclass(frozen=True)
class Package:
    """A package in the version that apt would install.

    Attributes:
        name: its name.
        version: its version.
        architecture: what it is for: a machine, or ``all``.
        sha256: of the .deb file, in hexadecimal, from the signed index.
        size: of the .deb file in bytes.
        depends: the field of that name.
    """

    name: str
    version: str
    architecture: str
    sha256: str
    size: int
    depends: str

    def file(self, directory: Path) -> Path:
        """Where apt puts it when it downloads to ``directory``."""
        version = self.version.replace(":", "%3a")
        return directory / f"{self.name}_{version}_{self.architecture}.deb"

    def is_in(self, directory: Path) -> bool:
        """Whether the file is there, and whole."""
        try:
            with self.file(directory).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except FileNotFoundError:
            return False


def fetch(
    names: Iterable[str],
    architecture: str,
    *,
    directory: Path,
    state: Path,
    progress: Callable[[str], None],
    libraries: bool = False,
) -> dict[Package, Path]:
    """Download packages, and the concrete kernels and modules that they stand for.

    Uses the system's package lists. If these are empty, out of date, or for another architecture,
    it fetches lists of its own from the system's sources.

    Args:
        names: the packages' names.
        architecture: Debian's name of it.
        directory: where the files go; files that are already there are not downloaded again.
        state: where package lists of its own go.
        progress: called with a line of text before anything slow.
        libraries: also download the libraries that the packages depend on.

    Raises:
        UnavailableError: apt is not installed, or the network cannot be reached.
        NotFoundError: apt does not know a package.
        InvalidError: a file's hash differs from the index.
        CommandFailedError: apt failed for another reason.
    """
    require_programs("apt-cache", "apt-get", "dpkg-deb")
    names = list(names)
    needs = [_KERNEL_PART, *([_LIBRARY] if libraries else [])]
    own = _Apt(architecture, state)
    for apt in (_Apt(architecture), own):
        try:
            return _download(apt, apt.resolve(names, needs), directory, progress)
        except (NotFoundError, CommandFailedError):
            continue  # the lists are empty, or so old that the files they name are gone
    progress("updating package lists")
    complaints = own.update()
    try:
        return _download(own, own.resolve(names, needs), directory, progress)
    except (NotFoundError, CommandFailedError) as error:
        text = f"{complaints}\n{error.why}".strip()
        if NO_NETWORK.search(text):
            raise UnavailableError(
                "The default guest image's packages can't be downloaded",
                why=f"no connection to the package repositories:\n{text}",
                todo=f"Connect this host to the network (or set apt's proxy). {USE_OWN_IMAGE}",
            ) from error
        error.why = text
        raise


class _Apt:
    def __init__(self, architecture: str, state: Path | None = None) -> None:
        options = [
            *OPTIONS,
            f"APT::Architecture={architecture}",
            f"APT::Architectures={architecture}",
        ]
        if state is not None:
            for directory in ("lists/partial", "archives/partial"):
                (state / directory).mkdir(parents=True, exist_ok=True)
            options += [
                f"Dir::State={state}",
                f"Dir::State::Lists={state / 'lists'}",
                f"Dir::Cache={state}",
                "Dir::State::Status=/dev/null",
                "Acquire::Languages=none",
                "Acquire::http::Timeout=30",
                "Acquire::https::Timeout=30",
                "APT::Update::Error-Mode=any",  # else a host that is offline looks like success
            ]
        self._options = [f"-o{option}" for option in options]

    def update(self) -> str:
        """Fetch the package lists; return apt's complaints.

        Not an error: one of the system's sources may be unreachable and not be needed.
        """
        try:
            run(["apt-get", "update", "-q", *self._options])
        except CommandFailedError as error:
            return error.why
        return ""

    def resolve(self, names: list[str], needs: list[re.Pattern[str]]) -> list[Package]:
        """The packages of these names, and of those that their dependencies match."""
        packages: dict[str, Package] = {}
        waiting = list(dict.fromkeys(names))
        while waiting:
            found = self._show(waiting)
            packages |= {package.name: package for package in found}
            needed = [
                name
                for package in found
                for need in needs
                for name in need.findall(package.depends)
            ]
            waiting = [name for name in dict.fromkeys(needed) if name not in packages]
        return list(packages.values())

    def _show(self, names: list[str]) -> list[Package]:
        """The packages of these names, by one call: apt takes a second to read its lists."""
        try:
            text = run(["apt-cache", "show", "--no-all-versions", *self._options, *names])
        except CommandFailedError as error:
            raise NotFoundError(
                f"apt knows no package {' or '.join(names)}",
                why=error.why,
                todo=USE_OWN_IMAGE,
            ) from error
        known: dict[str, dict[str, str]] = {}
        for paragraph in text.split("\n\n"):
            fields = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", paragraph, re.MULTILINE))
            known.setdefault(fields.get("Package", ""), fields)
        return [_package(name, known) for name in names]

    def download(self, packages: list[Package], directory: Path) -> None:
        wanted = [f"{package.name}={package.version}" for package in packages]
        run(["apt-get", "download", "-q", *self._options, *wanted], cwd=directory)


def _package(name: str, known: dict[str, dict[str, str]]) -> Package:
    if name not in known:
        raise NotFoundError(
            f"apt knows no package {name}", why="no package list has it", todo=USE_OWN_IMAGE
        )
    fields = known[name]
    try:
        return Package(
            name=name,
            version=fields["Version"],
            architecture=fields["Architecture"],
            sha256=fields["SHA256"],
            size=int(fields["Size"]),
            depends=fields.get("Depends", ""),
        )
    except (KeyError, ValueError) as error:
        # An installed package whose repository is gone has neither hash nor size.
        raise NotFoundError(
            f"apt does not know a repository that has {name}", why=f"no field {error}"
        ) from error


def _damaged(packages: Iterable[Package], directory: Path) -> Iterator[Package]:
    """Those whose file is there in its full length, but with another hash."""
    for package in packages:
        with contextlib.suppress(FileNotFoundError):
            whole = package.file(directory).stat().st_size == package.size
            if whole and not package.is_in(directory):
                yield package


def _download(
    apt: _Apt, packages: list[Package], directory: Path, progress: Callable[[str], None]
) -> dict[Package, Path]:
    directory.mkdir(parents=True, exist_ok=True)
    missing = [package for package in packages if not package.is_in(directory)]
    if missing:
        size = sum(package.size for package in missing)
        largest = max(missing, key=lambda package: package.size)
        progress(f"downloading {largest.name} {largest.version} ({size / 1e6:.1f} MB)")
        for package in missing:  # apt trusts a file of the right size
            package.file(directory).unlink(missing_ok=True)
        try:
            apt.download(missing, directory)
        except CommandFailedError as error:
            # apt 3.0 calls this "Undetermined Error" if the file came from a directory.
            error.why += "".join(
                f"\n{_MISMATCH.format(one)}" for one in _damaged(missing, directory)
            )
            raise
    for package in missing:
        if not package.is_in(directory):
            raise InvalidError(
                _MISMATCH.format(package),
                why=f"no file in {directory} has the SHA-256 {package.sha256}",
            )
    return {package: package.file(directory) for package in packages}

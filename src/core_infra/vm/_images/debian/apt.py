"""Resolves and downloads all packages of a system, by apt with a state directory of its own.

Nothing of the host's own packages counts, and nothing is installed there. The host's sources, pins
and keys do count, unless another release is asked for, whose sources are like the host's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from core_infra._unpatched import time
from core_infra._wording import count
from core_infra.errors import (
    CommandFailedError,
    CoreInfraError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from core_infra.vm._cache import locked
from core_infra.vm._images.default.apt import NO_NETWORK, OPTIONS
from core_infra.vm._images.programs import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from core_infra.vm._images.debian.release import Release

_URI = re.compile(r"^'([^']+)' (\S+) (\d+) SHA256:([0-9a-f]{64})$", re.MULTILINE)
_UNSIGNED = re.compile(r"^'([^']+)' (\S+) (\d+) (?!SHA256:)", re.MULTILINE)
_UNKNOWN = re.compile(
    r"(?:Unable to locate package|no installation candidate|has no installation candidate"
    r"|Couldn't find any package by \w+|Version '.*' for '.*' was not found)"
)
_UNMET = re.compile(r"The following packages have unmet dependencies:\n((?: .*\n)+)")
_NO_KEY = re.compile(r"NO_PUBKEY|is not signed|does not have a Release file|Missing key")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*[a-z0-9+](?:=[A-Za-z0-9.+:~-]+)?")
_FRESH = 3600  # seconds for which package lists are not fetched again
_KEPT = 30 * 24 * 3600
_PATIENCE = 900  # seconds that another process may take with the same lists
_APT = ("apt-get", "dpkg-deb")


@dataclass(frozen=True)
class Deb:
    """A package as a file.

    Attributes:
        path: the file, whose content has been verified.
        name: the package's name.
        version: its version.
        sha256: of the file, in hexadecimal, from the signed index.
    """

    path: Path
    name: str
    version: str
    sha256: str


def check_packages(names: Sequence[object]) -> None:
    """Raise InvalidError unless each is the name of a package, or NAME=VERSION."""
    for name in names:
        if not isinstance(name, str) or not _PACKAGE.fullmatch(name):
            raise InvalidError(
                f"{name!r} is not the name of a package",
                todo="Write NAME or NAME=VERSION, such as nginx-light.",
            )


class Apt:
    """The host's apt, with a state directory of its own.

    Args:
        release: whose packages it gets.
        sources: the content of its ``.sources`` file; None: the host's own sources.
        architecture: Debian's name of it.
        directory: where its state goes.
        progress: called with a line of text before anything slow.

    Raises:
        UnavailableError: apt is not installed.
    """

    def __init__(
        self,
        release: Release,
        sources: str | None,
        architecture: str,
        directory: Path,
        progress: Callable[[str], None],
    ) -> None:
        for name in _APT:
            if shutil.which(name) is None:
                raise UnavailableError(
                    f"cannot get the packages of {release}",
                    why=f"{name} is not on PATH",
                    todo="Images are made of packages on hosts that have apt: Debian or Ubuntu.",
                )
        self._release = release
        self._progress = progress
        self._state = directory / f"{release.distribution}-{release.codename}"
        self._archives = directory / "archives"
        self._options = [
            *OPTIONS,
            f"APT::Architecture={architecture}",
            f"APT::Architectures={architecture}",
            f"Dir::State={self._state}",
            f"Dir::Cache={self._state}",
            # Empty: no package is installed. apt locks the directory that it is in.
            f"Dir::State::Status={self._state / 'status'}",
            "Acquire::Languages=none",
            "Acquire::ForceHash=SHA256",
            "Acquire::http::Timeout=30",
            "Acquire::https::Timeout=30",
            "APT::Update::Error-Mode=any",  # else a host that is offline looks like success
            "APT::Install-Recommends=false",
            "APT::Install-Suggests=false",
            # Else files in the directory that we download to would be removed, or left out.
            "APT::Keep-Downloaded-Packages=true",
        ]
        for part in (self._archives, self._state / "lists", self._state / "empty"):
            (part / "partial").mkdir(parents=True, exist_ok=True)
        (self._state / "status").touch()
        if sources is not None:
            path = self._state / "core-infra.sources"
            path.write_text(sources)
            self._options += [f"Dir::Etc::SourceList={path}", "Dir::Etc::SourceParts=/dev/null"]
        self._host_lists = sources is None
        self._lock = directory / ".lock"

    def fetch(self, base: Sequence[str], names: Sequence[str]) -> list[Deb]:
        """Download packages with all that they depend on, in the order of apt's plan.

        Args:
            base: the packages of every system.
            names: the packages that the user asks for.

        Raises:
            NotFoundError: a package is not known.
            InvalidError: the packages cannot be installed together, or a file has another hash.
            UnavailableError: no repository can be reached, or its signature cannot be verified.
            CommandFailedError: apt failed for another reason.
        """
        doing = f"gets packages of {self._release}"
        with (
            locked(self._lock, doing, self._progress, timeout=_PATIENCE),
            self._without_parts(),
        ):
            if self._host_lists:
                lists = run(["apt-config", "shell", "lists", "Dir::State::lists/d"])
                host = [f"Dir::State::Lists={''.join(shlex.split(lists)).removeprefix('lists=')}"]
                with contextlib.suppress(CoreInfraError):  # they are empty, or out of date
                    return self._fetch(base, names, host)
            own = [f"Dir::State::Lists={self._state / 'lists'}"]
            complaints = self._update(own)
            try:
                return self._fetch(base, names, own)
            except (NotFoundError, CommandFailedError) as error:
                text = f"{complaints}\n{error.why}".strip()
                what = f"cannot get the packages of {self._release}"
                if complaints and _NO_KEY.search(complaints):
                    why = f"their signature cannot be verified:\n{complaints}"
                    raise UnavailableError(what, why=why) from error
                if NO_NETWORK.search(text):
                    raise UnavailableError(
                        what,
                        why=f"no connection to the package repositories:\n{text}",
                        todo="Connect this host to the network, or set apt's proxy.",
                    ) from error
                error.why = text
                raise

    @contextlib.contextmanager
    def _without_parts(self) -> Iterator[None]:
        """For a block that downloads: if it fails, remove what it has begun.

        It is in the way of a full disk; and apt 3 keeps a package there that is not the index's.
        """
        try:
            yield
        except (CoreInfraError, OSError):
            for place in (self._archives, self._state / "lists"):
                for part in (place / "partial").iterdir():
                    part.unlink(missing_ok=True)
            raise

    def _update(self, own: list[str]) -> str:
        """Fetch the package lists, unless they are fresh; return apt's complaints."""
        stamp = self._state / "updated"
        with contextlib.suppress(FileNotFoundError):
            recent = 0 <= time.time() - stamp.stat().st_mtime < _FRESH
            # The host may have got another repository meanwhile.
            if recent and stamp.read_text() == self._sources(own):
                return ""
        self._progress(f"updating the package lists of {self._release}")
        try:
            self._run("update", own)
        except CommandFailedError as error:
            return error.why
        stamp.write_text(self._sources(own))
        return ""

    def _sources(self, own: list[str]) -> str:
        """All lists that there are to fetch, whether they have been fetched or not."""
        return self._run("indextargets", own, "--no-release-info", "--format", "$(URI)")

    def _fetch(self, base: Sequence[str], names: Sequence[str], options: list[str]) -> list[Deb]:
        # An archive that is there is not listed, so the list is made with an empty directory.
        empty = f"Dir::Cache::archives={self._state / 'empty'}"
        listed = self._install([*options, empty], "--print-uris", base, names)
        debs = [self._deb(file, sha256) for _, file, _, sha256 in _URI.findall(listed)]
        if unsigned := _UNSIGNED.findall(listed):
            raise InvalidError(
                f"the package {unsigned[0][1]} cannot be verified",
                why=f"the index of {unsigned[0][0]} has no SHA-256 of it",
            )
        missing = [deb for deb in debs if not _is_whole(deb)]
        if missing:
            self._progress(f"downloading {count(len(missing), 'package')} of {self._release}")
            for deb in missing:  # apt trusts a file of the right size
                deb.path.unlink(missing_ok=True)
            place = f"Dir::Cache::archives={self._archives}"
            self._install([*options, place], "--download-only", base, names)
        for deb in missing:
            if not _is_whole(deb):
                raise InvalidError(
                    f"the package {deb.name} {deb.version} differs from its index",
                    why=f"no file in {self._archives} has the SHA-256 {deb.sha256}",
                )
        self._remove_unused(debs)
        return debs

    def _remove_unused(self, debs: list[Deb]) -> None:
        """Remove packages that no image has needed for a month."""
        for deb in debs:
            os.utime(deb.path)
        for path in self._archives.glob("*.deb"):
            if path.stat().st_mtime < time.time() - _KEPT:
                path.unlink()

    def _deb(self, file: str, sha256: str) -> Deb:
        name, version, _ = file.split("_", 2)
        return Deb(self._archives / file, name, unquote(version), sha256)

    def _install(
        self, options: list[str], how: str, base: Sequence[str], names: Sequence[str]
    ) -> str:
        try:
            return self._run("install", options, "-y", how, "--", *base, *names)
        except CommandFailedError as error:
            if _UNKNOWN.search(error.why):
                complaint = next(line for line in error.why.splitlines() if _UNKNOWN.search(line))
                raise NotFoundError(
                    f"{self._release} has no such package",
                    why=complaint.removeprefix("E: "),
                ) from error
            output = (error.stdout or b"").decode(errors="replace")
            if unmet := _UNMET.search(output):
                raise InvalidError(
                    f"the packages {', '.join(names)} cannot be installed together",
                    why=unmet[1].rstrip(),
                ) from error
            raise

    def _run(self, action: str, options: list[str], *arguments: str) -> str:
        chosen = [f"-o{option}" for option in (*self._options, *options)]
        return run(["apt-get", action, "-q", *chosen, *arguments])


def _is_whole(deb: Deb) -> bool:
    try:
        with deb.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == deb.sha256
    except FileNotFoundError:
        return False

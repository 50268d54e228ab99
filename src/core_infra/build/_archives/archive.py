"""Packs artifacts into archives: in one pass, on all cores, and always with the same bytes.

The host does not influence the bytes: members are sorted, and have the same time
(``SOURCE_DATE_EPOCH``), the owner 0 and the modes 755 or 644. Neither does the number of threads.
"""

from __future__ import annotations

import hashlib
import posixpath
from contextlib import closing
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from core_infra._host import processors
from core_infra.build._archives.contents import (
    BUNDLE,
    Contents,
    check_artifact,
    members,
    source_date_epoch,
)
from core_infra.build._archives.deflate import isal_codec, zlib_ng_codec
from core_infra.build._archives.streams import gzip, tar, xz
from core_infra.build._archives.zip_writer import pack_zip
from core_infra.build._errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from core_infra.build._archives.deflate import Codec
    from core_infra.build._artifact import Artifact
    from core_infra.medium._medium import Medium


E = TypeVar("E", bound=StrEnum)


class Format(StrEnum):
    """The archive formats."""

    GZ = "gz"
    XZ = "xz"
    ZIP = "zip"

    @property
    def extension(self) -> str:
        """The file name extension."""
        return ".zip" if self is Format.ZIP else f".tar.{self}"


class Profile(StrEnum):
    """What to optimize for: the usual balance, speed, or size."""

    DEFAULT = "default"
    FAST = "fast"
    SMALL = "small"


_ISAL_LEVEL = 2
_GZ_LEVELS = {Profile.DEFAULT: 6, Profile.SMALL: 9}
_ZIP_LEVELS = {Profile.DEFAULT: 5, Profile.SMALL: 9}
"""A level that is a fifth faster than zip's usual one, for 0.3 % larger files."""
_XZ_PRESETS = {Profile.DEFAULT: 6, Profile.FAST: 1, Profile.SMALL: 6}


def archive(
    medium: Medium,
    artifact: Artifact,
    *,
    profile: Profile | str = Profile.DEFAULT,
    epoch: int | None = None,
    threads: int | None = None,
) -> Artifact:
    """Pack an artifact as ``.tar.gz``; for Windows as ``.zip``.

    ``dist/linux_amd64/app`` becomes ``dist/app_linux_amd64.tar.gz``, which contains ``app``. If the
    artifact is not in a directory with its platform's name, the archive is in the same directory.

    Args:
        medium: where the artifact is, and where the archive will be.
        artifact: the file, or a directory with ``tree=True``, or an application bundle (``.app``).
        profile: "default", "fast" (ISA-L) or "small" (xz).
        epoch: the time of all members, in seconds since 1970; by default SOURCE_DATE_EPOCH, or
            1980-01-01.
        threads: the number of threads; by default the number of processors.

    Returns:
        The archive as an artifact, with its checksum and the digest of its content.

    Raises:
        ArtifactError: the path is empty, or a directory where a file is expected.
        ArtifactMissingError: the artifact does not exist.
        ArchiveError: it contains a name or a link that is not allowed in an archive.
        ToolMissingError: the extra ``build`` is not installed.
        CoreInfraError: reading or writing fails; no archive is created.
    """
    profile = _choice(Profile, profile)
    form = Format.XZ if profile is Profile.SMALL else Format.GZ
    return archive_with_format(
        medium, artifact, form, profile=profile, epoch=epoch, threads=threads
    )


def archive_xz(
    medium: Medium, artifact: Artifact, *, epoch: int | None = None, threads: int | None = None
) -> Artifact:
    """Pack an artifact like :func:`archive`, as ``.tar.xz``."""
    return archive_with_format(medium, artifact, Format.XZ, epoch=epoch, threads=threads)


def archive_with_format(
    medium: Medium,
    artifact: Artifact,
    form: Format | str,
    *,
    profile: Profile | str = Profile.DEFAULT,
    epoch: int | None = None,
    threads: int | None = None,
    extra: Mapping[str, str] | None = None,
    wrap: str = "",
) -> Artifact:
    """Pack an artifact like :func:`archive`, in a given format: "gz", "xz" or "zip".

    Args:
        medium: as for :func:`archive`, like the others.
        artifact: the file or directory.
        form: the format.
        profile: the compression.
        epoch: the time of all members.
        threads: the number of threads.
        extra: the paths of further files, such as a licence, by their names in the archive.
        wrap: a directory in the archive that contains everything; empty for none.
    """
    form, profile = _format(form, artifact), _choice(Profile, profile)
    epoch = source_date_epoch() if epoch is None else epoch
    check_artifact(medium, artifact)
    path = archive_path(artifact, form)
    contents = Contents(medium, members(medium, artifact, extra=extra or {}, wrap=wrap), epoch)
    digest = hashlib.sha256()
    pieces = _pack(contents, form, profile, threads or processors())
    with closing(pieces), medium.create(path) as file:
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
    return replace(
        artifact,
        path=path,
        checksum=digest.hexdigest(),
        content=contents.digest,
        tree=False,
    )


def archive_all(
    medium: Medium,
    artifacts: Iterable[Artifact],
    *,
    profile: Profile | str = Profile.DEFAULT,
    epoch: int | None = None,
    threads: int | None = None,
) -> list[Artifact]:
    """Pack each artifact like :func:`archive`; the archives are in the same order.

    Raises:
        ArchiveError: two archives would have the same name; none is created.
        CoreInfraError: as for :func:`archive`.
    """
    profile = _choice(Profile, profile)
    form = Format.XZ if profile is Profile.SMALL else Format.GZ
    return archive_all_with_format(
        medium, artifacts, form, profile=profile, epoch=epoch, threads=threads
    )


def archive_all_xz(
    medium: Medium,
    artifacts: Iterable[Artifact],
    *,
    epoch: int | None = None,
    threads: int | None = None,
) -> list[Artifact]:
    """Pack each artifact like :func:`archive_all`, as ``.tar.xz``."""
    return archive_all_with_format(medium, artifacts, Format.XZ, epoch=epoch, threads=threads)


def archive_all_with_format(
    medium: Medium,
    artifacts: Iterable[Artifact],
    form: Format | str,
    *,
    profile: Profile | str = Profile.DEFAULT,
    epoch: int | None = None,
    threads: int | None = None,
) -> list[Artifact]:
    """Pack each artifact like :func:`archive_all`, in a given format: "gz", "xz" or "zip"."""
    artifacts = list(artifacts)
    taken: dict[str, str] = {}
    for artifact in artifacts:
        path = archive_path(artifact, form)
        if path in taken:
            raise ArchiveError(
                f"cannot archive {taken[path]!r} and {artifact.path!r}",
                why=f"both would be {path!r}",
                todo="Give one of them another name or platform.",
                path=path,
            )
        taken[path] = artifact.path
    return [
        archive_with_format(medium, one, form, profile=profile, epoch=epoch, threads=threads)
        for one in artifacts
    ]


def archive_path(artifact: Artifact, form: Format | str) -> str:
    """Return the path that the archive of an artifact will have."""
    form = _format(form, artifact)
    path = posixpath.normpath(artifact.path)
    directory, name = posixpath.split(path)
    stem = name.removesuffix(".exe").removesuffix(BUNDLE) or name
    platform = "_".join(filter(None, (artifact.os, artifact.arch)))
    if platform and posixpath.basename(directory) == platform:
        directory = posixpath.dirname(directory)
    full = "_".join(filter(None, (stem, platform)))
    return posixpath.join(directory, full + form.extension)


def _pack(contents: Contents, form: Format, profile: Profile, threads: int) -> Generator[bytes]:
    if form is Format.ZIP:
        yield from pack_zip(contents, _codec(profile, _ZIP_LEVELS), threads)
    elif form is Format.XZ:
        yield from xz(tar(contents), _XZ_PRESETS[profile], threads)
    else:
        yield from gzip(tar(contents), _codec(profile, _GZ_LEVELS), threads)


def _codec(profile: Profile, levels: Mapping[Profile, int]) -> Codec:
    if profile is Profile.FAST:
        return isal_codec(_ISAL_LEVEL)
    return zlib_ng_codec(levels[profile])


def _format(form: Format | str, artifact: Artifact) -> Format:
    chosen = _choice(Format, form)
    return Format.ZIP if artifact.os == "windows" else chosen


def _choice(kind: type[E], value: str) -> E:
    if value not in set(kind):
        raise ArchiveError(
            f"{value!r} is not an archive {kind.__name__.lower()}",
            why=f"the choices are {', '.join(kind)}",
        )
    return kind(value)

"""OCI images by address: ``oci:NAME``, ``oci-layout:DIRECTORY[:NAME]``, ``oci-archive:FILE``."""

from __future__ import annotations

import contextlib
import json
import posixpath
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._images.oci.image import oci_image
from core_infra.vm._images.oci.manifest import INDEXES, LARGEST, MANIFESTS, digests, fetch
from core_infra.vm._images.oci.mirrors import Mirrors
from core_infra.vm._images.oci.reference import DIGEST, parse_reference
from core_infra.vm._images.oci.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from core_infra.vm._images.image import Image
    from core_infra.vm._images.oci.manifest import Descriptor, OciImage

_NAME = "org.opencontainers.image.ref.name"


def load_oci(
    address: str, arch: str, *, cache_dir: Path, refresh: bool, progress: Callable[[str], None]
) -> Image:
    """Return the image at an address as one that a machine boots.

    Takes the arguments of :func:`find_oci`, and raises the same errors.
    """
    image = find_oci(address, arch, cache_dir=cache_dir, refresh=refresh, progress=progress)
    return oci_image(image, address, arch, cache_dir=cache_dir, progress=progress)


def find_oci(
    address: str,
    arch: str,
    *,
    cache_dir: Path,
    refresh: bool = False,
    progress: Callable[[str], None],
) -> OciImage:
    """Return the image at an address, with all its layers on this host.

    Args:
        address: of the image, as above.
        arch: which one, if there are several: as ``uname -m`` says it.
        cache_dir: the directory where images are kept.
        refresh: ask the registry which image a tag names, even if that is known.
        progress: is called with a line of text before anything slow.

    Raises:
        CoreInfraError: it does not exist, cannot be fetched, or is malformed.
    """
    scheme, _, rest = address.partition(":")
    store = Store(cache_dir / "oci")
    if scheme == "oci":
        return _from_registry(rest, arch, store, progress, refresh=refresh)
    if scheme == "oci-layout":
        store, digest = _layout(rest)
    else:
        digest = _take_archive(Path(rest).expanduser().absolute(), store, progress)
    return fetch(_Local(store), digest, arch, store, progress)


def find_digests(
    address: str, *, cache_dir: Path, refresh: bool = True, progress: Callable[[str], None]
) -> dict[str, str]:
    """Return the digest of an image's manifest for each architecture, as its origin has it now.

    Takes the arguments of :func:`find_oci`, and raises the same errors. Without *refresh*, what a
    registry has is not asked for if it is known.
    """
    scheme, _, rest = address.partition(":")
    store = Store(cache_dir / "oci")
    if scheme == "oci":
        reference = parse_reference(rest)
        known = store.find(str(reference)) or {"digest": reference.digest}
        if known["digest"] and not refresh:
            with contextlib.suppress(NotFoundError, InvalidError):  # incomplete: asked for, then
                return digests(_Local(store), known["digest"], store)
        progress(f"looking for {reference}")
        return digests(Mirrors(reference, progress), reference.version, store)
    if scheme == "oci-layout":
        store, digest = _layout(rest)
    else:
        digest = _take_archive(Path(rest).expanduser().absolute(), store, progress)
    return digests(_Local(store), digest, store)


def _from_registry(
    name: str, arch: str, store: Store, progress: Callable[[str], None], *, refresh: bool
) -> OciImage:
    reference = parse_reference(name)
    known = store.find(str(reference)) or {"digest": reference.digest}  # which cannot change
    if known["digest"] and not (refresh and reference.tag):
        with contextlib.suppress(NotFoundError, InvalidError):  # an incomplete one is fetched again
            return fetch(_Local(store), known["digest"], arch, store, progress)
    progress(f"fetching {reference}")
    origin = Mirrors(reference, progress)
    digest, data = origin.manifest(reference.version)  # once: a tag may move meanwhile
    if not store.has(digest):
        store.add([data], digest)
    image = fetch(origin, digest, arch, store, progress)
    kind = MANIFESTS[0] if digest == image.digest else INDEXES[0]
    store.name(str(reference), {"mediaType": kind, "digest": digest, "size": len(data)})
    return image


def _layout(rest: str) -> tuple[Store, str]:
    """Return a layout, and the digest of the image in it that an address names."""
    directory, name = rest, ""
    if not Path(rest).expanduser().is_dir() and ":" in rest:
        directory, _, name = rest.rpartition(":")
    root = Path(directory).expanduser().absolute()
    if not (root / "oci-layout").is_file():
        raise NotFoundError(
            f"there is no OCI image layout in {root}",
            why="it has no file oci-layout",
            todo="Write it as oci-layout:DIRECTORY or oci-layout:DIRECTORY:NAME.",
        )
    store = Store(root)
    return store, _named(store, name, root)


def _named(store: Store, name: str, place: Path) -> str:
    """Return the digest of the image with a name; without a name, of the only one."""
    entries = store.named()
    names = [str(one.get("annotations", {}).get(_NAME, "")) for one in entries]
    found = [one for one, own in zip(entries, names, strict=True) if not name or own == name]
    if len(found) == 1:
        return str(found[0].get("digest"))
    listed = ", ".join(filter(None, names)) or "none that has a name"
    if found:
        raise InvalidError(
            f"{place} holds {len(found)} images", why=f"they are {listed}", todo="Name one of them."
        )
    raise NotFoundError(f"{place} holds no image {name}", why=f"it holds {listed}")


class _Local:
    """A layout whose blobs are all there."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def manifest(self, version: str) -> tuple[str, bytes]:
        """Return a manifest by its digest."""
        return version, self._store.read(version, LARGEST)

    def blob(self, descriptor: Descriptor, store: Store) -> None:
        """Raise NotFoundError: what is not there is nowhere."""
        raise NotFoundError(
            f"the image lacks the blob {descriptor.digest}", why=str(store.path(descriptor.digest))
        )


def _take_archive(path: Path, store: Store, progress: Callable[[str], None]) -> str:
    """Take an archive's blobs into the store: of an OCI layout, or of ``docker save``."""
    try:
        with tarfile.open(path) as archive:
            progress(f"reading {path}")
            return _Archive(archive, path).take(store)
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no archive {path}") from error
    except OSError as error:
        if error.errno is None:
            raise InvalidError(f"the archive {path} is damaged", why=str(error)) from error
        why = error.strerror or str(error)
        raise InvalidError(f"the archive {path} cannot be read", why=why) from error
    except (tarfile.TarError, EOFError) as error:
        raise InvalidError(f"{path} is not a tar archive", why=str(error)) from error


class _Archive:
    """An open archive that holds an image."""

    def __init__(self, archive: tarfile.TarFile, path: Path) -> None:
        self._archive = archive
        self._path = path
        self._files = {}
        for member in archive:
            name = posixpath.normpath(member.name)
            if member.isreg():
                self._files[name] = member
            elif member.issym():  # docker's for a layer that is there twice
                target = posixpath.normpath(posixpath.join(name, "..", member.linkname))
                if target in self._files:
                    self._files[name] = self._files[target]

    def take(self, store: Store) -> str:
        """Take all that it has into a store; return the digest of the manifest or index."""
        if "index.json" in self._files:
            return self._take_layout(store)
        if "manifest.json" in self._files:
            return self._take_saved(store)
        raise InvalidError(
            f"{self._path} holds no image",
            why="it has neither index.json (OCI) nor manifest.json (docker save)",
        )

    def _take_layout(self, store: Store) -> str:
        for name, member in self._files.items():
            digest = name.removeprefix("blobs/").replace("/", ":")
            if DIGEST.fullmatch(digest) and not store.has(digest):
                store.add(self._pieces(member), digest)
        index = self._json("index.json")
        entries = index.get("manifests") if isinstance(index, dict) else None
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            raise InvalidError(f"index.json in {self._path} lists no descriptors")
        digests = {str(one.get("digest")) for one in entries}  # of an image with two names, one
        if len(digests) != 1:
            why = f"it holds {len(digests)}"
            raise InvalidError(f"the archive {self._path} must hold one image", why=why)
        return digests.pop()

    def _take_saved(self, store: Store) -> str:
        """Make a manifest of Docker's own list, whose layers are not packed and have no digests."""
        listed = self._json("manifest.json")
        try:
            (entry,) = listed
            blobs = [self._files[name] for name in (entry["Config"], *entry["Layers"])]
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidError(
                f"the archive {self._path} must hold one whole image", why=repr(error)
            ) from error
        kept = [{"digest": store.add(self._pieces(one)), "size": one.size} for one in blobs]
        manifest = {"schemaVersion": 2, "config": kept[0], "layers": kept[1:]}
        return store.add([json.dumps(manifest, sort_keys=True).encode()])

    def _json(self, name: str) -> Any:
        member = self._files[name]
        if member.size > LARGEST:
            raise InvalidError(f"{name} in {self._path} is too long", why=f"{member.size} bytes")
        try:
            return json.loads(b"".join(self._pieces(member)))
        except (ValueError, RecursionError) as error:
            raise InvalidError(f"{name} in {self._path} is not JSON", why=str(error)) from error

    def _pieces(self, member: tarfile.TarInfo) -> Iterator[bytes]:
        file = self._archive.extractfile(member)
        assert file is not None  # noqa: S101 - a regular file
        with file:
            while piece := file.read(1 << 20):
                yield piece

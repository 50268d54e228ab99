"""What an image consists of: its index, manifest and configuration, of OCI and of Docker.

They come from strangers, so each field is checked when it is read.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from core_infra._host import SHORT_NAMES
from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._guest.run_config import RunConfig
from core_infra.vm._images.oci.reference import DIGEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from core_infra.vm._images.oci.store import Store

INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_CONFIGS = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)
_ENCRYPTED = "+encrypted"
LARGEST = 4 << 20
"""Bytes of a manifest or a configuration: the limit of other registries and clients, too."""
_DEPTH = 3
_MOST_LAYERS = 1000


@dataclass(frozen=True)
class Descriptor:
    """A blob that another one names.

    Attributes:
        digest: the SHA-256 of its content, as ``sha256:…``.
        size: its bytes.
        media_type: what it is; "" if that is not said.
    """

    digest: str
    size: int
    media_type: str = ""


@dataclass(frozen=True)
class OciImage:
    """An image whose blobs are all in a store.

    Attributes:
        digest: of its manifest.
        run: how its programs are run.
        layers: its packed layers, the lowest first.
        unpacked: the digests of the unpacked ones.
        store: where they are.
        labels: what its configuration says of it, by name.
    """

    digest: str
    run: RunConfig
    layers: tuple[Descriptor, ...]
    unpacked: tuple[str, ...]
    store: Store
    labels: Mapping[str, str] = field(default_factory=dict)


class Origin(Protocol):
    """Where an image comes from."""

    def manifest(self, version: str) -> tuple[str, bytes]:
        """Return the digest and the content of a manifest or index, by its digest or tag."""

    def blob(self, descriptor: Descriptor, store: Store) -> None:
        """Bring a blob into the store."""


def fetch(
    origin: Origin, version: str, arch: str, store: Store, progress: Callable[[str], None]
) -> OciImage:
    """Bring an image into a store, except what is there.

    Args:
        origin: where it comes from.
        version: its tag or digest there.
        arch: of an image for several: which one, as ``uname -m`` says it.
        store: where it goes.
        progress: is called with a line of text before anything slow.

    Raises:
        NotFoundError: there is no such image, or none for *arch*.
        InvalidError: a part of it is malformed, or not what its digest says.
        UnavailableError: its origin cannot be reached, or the store cannot be written.
    """
    digest, data = _manifest(origin, version, store)
    for _ in range(_DEPTH):
        document = _document(data, "manifest")
        if "manifests" not in document:
            break
        chosen = _choose(document, arch)
        digest, data = _manifest(origin, chosen.digest, store)
    else:
        raise InvalidError("the image's index names another index", why="and so on")
    layers, config = _parts(document)
    for number, blob in enumerate((config, *layers)):
        if not store.has(blob.digest):
            if number:
                progress(f"fetching layer {number} of {len(layers)} ({blob.size / 1e6:.1f} MB)")
            origin.blob(blob, store)
    document = _document(store.read(config.digest, LARGEST), "configuration")
    run, unpacked, labels = _config(document, arch)
    if len(unpacked) != len(layers):
        raise InvalidError(
            "the image's configuration does not fit its manifest",
            why=f"they have {len(unpacked)} and {len(layers)} layers",
        )
    return OciImage(digest, run, layers, unpacked, store, labels)


def digests(origin: Origin, version: str, store: Store) -> dict[str, str]:
    """Return the digest of an image's manifest for each architecture that it has.

    Only manifests are fetched, and the configuration of an image for one architecture.

    Args:
        origin: where it comes from.
        version: its tag or digest there.
        store: where manifests go.

    Raises:
        CoreInfraError: as :func:`fetch` does.
    """
    digest, data = _manifest(origin, version, store)
    document = _document(data, "manifest")
    found = {}
    if "manifests" in document:
        for arch in SHORT_NAMES:
            with contextlib.suppress(NotFoundError):
                found[arch] = _choose(document, arch).digest
        return found
    _, config = _parts(document)
    if not store.has(config.digest):
        origin.blob(config, store)
    machine = _document(store.read(config.digest, LARGEST), "configuration").get("architecture")
    return {arch: digest for arch, name in SHORT_NAMES.items() if name == machine}


def _manifest(origin: Origin, version: str, store: Store) -> tuple[str, bytes]:
    """Return a manifest or index, from the store if it is there; otherwise it is added."""
    if DIGEST.fullmatch(version) and store.has(version):
        return version, store.read(version, LARGEST)
    digest, data = origin.manifest(version)
    if not store.has(digest):  # a layout of the user's has it, and is not written to
        store.add([data], digest)
    return digest, data


def _document(data: bytes, what: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"the image's {what} is not JSON", why=str(error)) from error
    if not isinstance(document, dict):
        raise InvalidError(f"the image's {what} is malformed", why="it must be an object")
    return document


def _choose(index: dict[str, Any], arch: str) -> Descriptor:
    """Return the manifest for an architecture; attestations are for none."""
    found = []
    for entry in _list(index, "manifests"):
        platform = entry.get("platform") if isinstance(entry, dict) else None
        if platform is None:  # an index of one image says nothing of it
            platform = {"os": "linux", "architecture": SHORT_NAMES[arch]}
        if not isinstance(platform, dict):
            raise InvalidError("the image's index is malformed", why="a platform must be an object")
        os, machine = platform.get("os"), platform.get("architecture")
        if (os, machine) == ("linux", SHORT_NAMES[arch]):
            return _descriptor(entry, "index")
        if "unknown" not in (os, machine):
            found.append(f"{os}/{machine}")
    raise NotFoundError(
        f"the image has no version for linux/{SHORT_NAMES[arch]}",
        why=f"it has {', '.join(found) or 'none at all'}",
        todo=_advice(platform.removeprefix("linux/") for platform in found),
    )


def _advice(machines: Iterable[object]) -> str:
    """Return how to run an image for other architectures."""
    wanted = list(machines)
    names = [arch for arch, machine in SHORT_NAMES.items() if machine in wanted]
    return f"Run it emulated, as arch={names[0]!r}." if names else ""


def _parts(manifest: dict[str, Any]) -> tuple[tuple[Descriptor, ...], Descriptor]:
    if manifest.get("schemaVersion") == 1:
        raise InvalidError(
            "the image's manifest is of the first version",
            why="it was replaced in 2016, and cannot be checked",
            todo="Copy the image with skopeo, which converts it.",
        )
    layers = [_descriptor(entry, "manifest") for entry in _list(manifest, "layers")]
    if len(layers) > _MOST_LAYERS:
        raise InvalidError("the image has too many layers", why=f"it has {len(layers)}")
    config = _descriptor(manifest.get("config"), "manifest")
    if config.media_type.startswith("application/vnd.") and config.media_type not in _CONFIGS:
        raise InvalidError(
            "what the registry has there is not the image of a system",
            why=f"it is an artifact, whose configuration is {config.media_type}",
        )
    if any(one.media_type.endswith(_ENCRYPTED) for one in layers):
        raise InvalidError(
            "the image's layers are encrypted",
            todo="Decrypt a copy: skopeo copy --decryption-key KEY, and use that.",
        )
    return tuple(layers), config


def _descriptor(entry: object, where: str) -> Descriptor:
    if isinstance(entry, dict):
        digest, size = entry.get("digest"), entry.get("size")
        media_type = entry.get("mediaType", "")
        if (
            isinstance(digest, str)
            and DIGEST.fullmatch(digest)
            and isinstance(size, int)
            and size >= 0
            and isinstance(media_type, str)
        ):
            return Descriptor(digest, size, media_type)
    raise InvalidError(
        f"the image's {where} is malformed",
        why=f"a digest (sha256:…) and a size are needed, not {str(entry)[:200]}",
    )


def _config(
    document: dict[str, Any], arch: str
) -> tuple[RunConfig, tuple[str, ...], dict[str, str]]:
    system, machine = document.get("os", "linux"), document.get("architecture")
    if (system, machine) != ("linux", SHORT_NAMES[arch]):
        raise NotFoundError(
            f"the image has no version for linux/{SHORT_NAMES[arch]}",
            why=f"it is for {system}/{machine}",
            todo=_advice([machine]) if system == "linux" else "",
        )
    run = document.get("config") or {}
    root = document.get("rootfs")
    if not isinstance(run, dict) or not isinstance(root, dict):
        raise InvalidError("the image's configuration is malformed", why="it has no root")
    env = dict(text.partition("=")[::2] for text in _texts(run, "Env"))
    config = RunConfig(
        env=env,
        workdir=_text(run, "WorkingDir") or "/",
        user=_text(run, "User"),
        entrypoint=_texts(run, "Entrypoint"),
        cmd=_texts(run, "Cmd"),
    )
    labels = run.get("Labels") or {}
    if not isinstance(labels, dict) or not all(isinstance(one, str) for one in labels.values()):
        why = "Labels must be texts by name"
        raise InvalidError("the image's configuration is malformed", why=why)
    return config, _texts(root, "diff_ids"), labels


def _list(document: dict[str, Any], name: str) -> list[Any]:
    value = document.get(name)
    if not isinstance(value, list):
        raise InvalidError("the image's manifest is malformed", why=f"{name} must be a list")
    return value


def _texts(document: dict[str, Any], name: str) -> tuple[str, ...]:
    value = document.get(name) or []
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        why = f"{name} must be a list of texts"
        raise InvalidError("the image's configuration is malformed", why=why)
    return tuple(value)


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name) or ""
    if not isinstance(value, str):
        raise InvalidError("the image's configuration is malformed", why=f"{name} must be a text")
    return value

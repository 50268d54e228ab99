"""An OCI image of the programs of a release, without Docker: one file with all its platforms.

See https://github.com/opencontainers/image-spec. The image has no base: programs must be linked
statically, as Go's are, or bring along what they need.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_infra.build._archives.contents import Contents, Member
from core_infra.build._archives.deflate import zlib_ng_codec
from core_infra.build._archives.streams import gzip, tar
from core_infra.build._artifact import Artifact
from core_infra.build._documents.checksums import checksum
from core_infra.errors import InvalidError
from core_infra.medium._local import LocalMedium

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from core_infra.build._artifact import Target
    from core_infra.build._plan import BuildPlan

_TYPE = "application/vnd.oci.image"
_LEVEL = 6
_VARIANTS = {"arm": "v7", "arm64": "v8"}
IMAGE_SUFFIX = "_oci.tar"


def build_image(plan: BuildPlan, built: Sequence[Artifact]) -> list[Artifact]:
    """Write the configured image; none without settings or Linux programs.

    Raises:
        InvalidError: a target has directories instead of programs, or none is the entry point.
    """
    context = plan.context
    if not context.settings.oci.image:
        return []
    layout = context.scratch("oci")
    shutil.rmtree(layout, ignore_errors=True)
    blobs = _Blobs(layout / "blobs" / "sha256", context.epoch, context.threads)
    manifests = []
    for target in plan.targets:
        programs = [one for one in built if (one.os, one.arch) == (target.os, target.arch)]
        if target.os == "linux" and programs:
            manifests.append(_manifest(plan, blobs, target, programs))
    if not manifests:
        return []
    index = {"schemaVersion": 2, "mediaType": f"{_TYPE}.index.v1+json", "manifests": manifests}
    reference = {"org.opencontainers.image.ref.name": image_tag(context.version)}
    top = blobs.add_json(index, f"{_TYPE}.index.v1+json") | {"annotations": reference}
    _write(layout / "oci-layout", {"imageLayoutVersion": "1.0.0"})
    _write(layout / "index.json", index | {"manifests": [top]})
    path = context.assembly() / f"{context.name}{IMAGE_SUFFIX}"
    with path.open("wb") as file:
        file.writelines(tar(Contents(LocalMedium(), _members(layout), context.epoch)))
    return [checksum(LocalMedium(), Artifact(str(path)))]


def image_tag(version: str) -> str:
    """The tag of an image of a version: ``1.2.3``."""
    return version.removeprefix("v").replace("+", "-") or "unversioned"


def _manifest(
    plan: BuildPlan, blobs: _Blobs, target: Target, programs: Sequence[Artifact]
) -> dict[str, Any]:
    context, files = plan.context, {}
    for program in programs:
        if program.tree or Path(program.path).is_dir():
            raise InvalidError(
                f"cannot put {program.name} into an image",
                why="images contain programs, and this is a directory",
                path=program.path,
            )
        files[f"usr/bin/{program.name}"] = Path(program.path), 0o755
    for given, to in context.settings.oci.files:
        own = context.project_dir / given
        files[to.lstrip("/")] = own, 0o755 if os.access(own, os.X_OK) else 0o644
    layer, plain = blobs.add_layer(files)
    created = datetime.fromtimestamp(context.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    labels = {
        "title": context.name,
        "version": context.version,
        "revision": context.commit,
        "created": created,
    }
    name = target.variant or _VARIANTS.get(target.architecture, "")
    variant = {"variant": name} if name else {}
    platform = {"architecture": target.architecture, "os": "linux", **variant}
    config = {
        "created": created,
        **platform,
        "config": {
            "Entrypoint": [f"/usr/bin/{_entry_point(plan, programs)}"],
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "User": context.settings.oci.user,
            "WorkingDir": "/",
            "Labels": {
                f"org.opencontainers.image.{name}": text for name, text in labels.items() if text
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [plain]},
        "history": [{"created": created, "created_by": "core-infra"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_TYPE}.manifest.v1+json",
        "config": blobs.add_json(config, f"{_TYPE}.config.v1+json"),
        "layers": [layer],
    }
    return blobs.add_json(manifest, f"{_TYPE}.manifest.v1+json") | {"platform": platform}


def _entry_point(plan: BuildPlan, programs: Sequence[Artifact]) -> str:
    wanted = plan.context.settings.oci.entrypoint or plan.context.name
    names = [one.name for one in programs]
    if wanted in names:
        return wanted
    if len(names) == 1 and not plan.context.settings.oci.entrypoint:
        return names[0]
    raise InvalidError(
        f"the image has no program {wanted}",
        why=f"it has {', '.join(names)}",
        todo="Set oci.entrypoint in .core/build.yaml to one of them.",
    )


class _Blobs:
    """The blobs of a layout, by their digests."""

    def __init__(self, directory: Path, epoch: int, threads: int) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self._epoch = epoch
        self._threads = threads

    def add_json(self, content: Mapping[str, Any], kind: str) -> dict[str, Any]:
        return self._add([json.dumps(content, sort_keys=True).encode()], kind)

    def add_layer(self, files: Mapping[str, tuple[Path, int]]) -> tuple[dict[str, Any], str]:
        """Add a layer; return its descriptor, and the digest of its content."""
        plain = hashlib.sha256()

        def watched(chunks: Iterable[bytes]) -> Iterator[bytes]:
            for chunk in chunks:
                plain.update(chunk)
                yield chunk

        contents = Contents(LocalMedium(), _layer_members(files), self._epoch)
        packed = gzip(watched(tar(contents)), zlib_ng_codec(_LEVEL), self._threads)
        layer = self._add(packed, f"{_TYPE}.layer.v1.tar+gzip")
        return layer, f"sha256:{plain.hexdigest()}"

    def _add(self, chunks: Iterable[bytes], kind: str) -> dict[str, Any]:
        digest, new = hashlib.sha256(), self._directory / "new"
        with new.open("wb") as file:
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
        size = new.stat().st_size
        new.rename(self._directory / digest.hexdigest())
        return {"mediaType": kind, "digest": f"sha256:{digest.hexdigest()}", "size": size}


def _layer_members(files: Mapping[str, tuple[Path, int]]) -> Iterator[Member]:
    above = {str(one) for name in files for one in Path(name).parents if str(one) != "."}
    for name in sorted({*files, *above}):
        if name in above:
            yield Member(name, "", stat.S_IFDIR | 0o755)
            continue
        path, mode = files[name]
        yield Member(name, str(path), stat.S_IFREG | mode, path.stat().st_size)


def _members(directory: Path) -> Iterator[Member]:
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_dir():
            yield Member(name, "", stat.S_IFDIR | 0o755)
        else:
            yield Member(name, str(path), stat.S_IFREG | 0o644, path.stat().st_size)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, sort_keys=True))

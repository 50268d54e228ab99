"""Puts a machine's root file system together, as ``linuxkit build`` does it.

In this order, of which what comes later wins: the kernel's modules, the images of ``init``,
``volumes``, ``onboot``, ``onshutdown``, ``services``, ``files``.
"""

from __future__ import annotations

import json
import stat
from functools import cached_property
from typing import TYPE_CHECKING

import yaml

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._images.compression import is_packed_file
from core_infra.vm._images.disk.tree import Node, Piece, directory
from core_infra.vm._images.linuxkit.archives import content, read_cpio
from core_infra.vm._images.linuxkit.containers import (
    CHANGES,
    Settings,
    container_config,
    label_settings,
    number,
    runtime_config,
)
from core_infra.vm._images.linuxkit.contents import (
    Contents,
    host_package,
    installed_packages,
)
from core_infra.vm._images.linuxkit.document import is_layout
from core_infra.vm._images.linuxkit.notations import octal
from core_infra.vm._images.linuxkit.own_init import own_init, runtime_packages
from core_infra.vm._images.linuxkit.root import Root, prepare, symlink
from core_infra.vm._images.linuxkit.volumes import write_layout
from core_infra.vm._images.manifest import MANIFEST
from core_infra.vm._images.oci.layers import merge
from core_infra.vm._images.oci.unpack import image_tree, unpack

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.vm._images.image import Image
    from core_infra.vm._images.linuxkit.plan import Plan
    from core_infra.vm._images.linuxkit.readers import Values

_RESOLVER = "/run/resolvconf/resolv.conf"
_INSTALLED = "lib/apk/db/installed"
_NONE = "none"
_NUMBERED = ("onboot", "onshutdown")


class Assembly:
    """One machine that is put together.

    Args:
        plan: what of.
        work: a directory for unpacked layers. They must stay for as long as the result is read.

    Attributes:
        root: its root file system.
        kernel: the file of its kernel.
        cmdline: the kernel's command line.
        microcode: the file that the kernel takes a processor's microcode from, if there is one.
    """

    def __init__(self, plan: Plan, work: Path) -> None:
        self._plan = plan
        self._work = work
        self._trees: dict[str, Node] = {}
        self._roots: dict[str, str] = {}  # where the files of an image's first container are
        self.root = Root()
        self.kernel = Node(0)
        self.cmdline = plan.file.kernel.get("cmdline", "")
        self.microcode: Node | None = None

    def make(self) -> None:
        """Put everything together.

        Raises:
            InvalidError: an image is damaged, or lacks what it is used for.
        """
        self._add_kernel()
        self._add_init()
        for volume in self._plan.file.volumes:
            self._add_volume(volume)
        for section, entries in self._plan.file.containers.items():
            for index, entry in enumerate(entries):
                prefix = f"{index:03}-" if section in _NUMBERED else ""
                self._add_container(entry, f"containers/{section}/{prefix}{entry['name']}")
        for entry in self._plan.file.files:
            self._add_file(entry)

    def contents(self) -> Contents:
        """Return the images and the packages that it was made of."""
        found = {one for tree in self._trees.values() for one in installed_packages(tree)}
        if self._plan.has_own_init:
            debs = runtime_packages(self._plan.arch, self._plan.progress)
            found |= {host_package(*path.name.split("_")[:2]) for path in debs}
        if self._plan.default is not None:
            manifest = json.loads((self._default.kernel.parent / MANIFEST).read_bytes())
            found |= {host_package(one["name"], one["version"]) for one in manifest["packages"]}
        digests = {address: image.digest for address, image in self._plan.images.items()}
        return Contents(digests, tuple(sorted(found)))

    # -- the system --------------------------------------------------------------------------------

    def _add_kernel(self) -> None:
        names = self._plan.file.kernel
        if "image" not in names:
            default = self._default
            self.kernel = _file(default.kernel)
            self.cmdline = self.cmdline or default.cmdline
            modules = Root()
            modules.put(self._default_tree)
            found = modules.find("usr/lib/modules")
            if found is not None:
                self.root.put(found, "lib/modules")
            return
        image = names["image"]
        self.kernel = self._part(names.get("binary", "kernel"), "kernel", image)
        if "ucode" in names:
            self.microcode = self._part(names["ucode"], "ucode", image)
        archive = names.get("tar", "kernel.tar")
        if archive == _NONE or ("tar" not in names and self._found(archive, image) is None):
            return
        packed = self._work / "kernel.tar"
        with packed.open("wb") as target:
            for piece in content(self._part(archive, "tar", image)):
                target.write(piece)
        with packed.open("rb") as file:
            head = file.read(8)
        if is_packed_file(head):
            unpacked = self._work / "kernel-unpacked.tar"
            unpack(packed, unpacked)
            packed = unpacked
        self.root.put(merge([packed]))

    def _found(self, path: str, image: str) -> Node | None:
        files = Root()
        files.tree = self._tree(image)
        node = files.find(path)
        return node if node is not None and node.is_file else None

    def _part(self, path: str, field: str, image: str) -> Node:
        node = self._found(path, image)
        if node is None:
            has = sorted(name.decode(errors="replace") for name in self._tree(image).entries)
            raise NotFoundError(
                f"the kernel's image {image} has no file {path}",
                why=f"it has {', '.join(has[:20]) or 'nothing'}",
                todo=f"Name the file in kernel.{'binary' if field == 'kernel' else field}.",
            )
        return node

    def _add_init(self) -> None:
        if self._plan.has_own_init:
            tree = own_init(self._default_tree, self._plan.arch, self._work, self._plan.progress)
            self.root.put(prepare(tree, _RESOLVER))
            return
        installed = []
        for image in self._plan.file.init:
            self.root.put(prepare(self._tree(image), _RESOLVER))
            files = Root()
            files.tree = self._tree(image)
            if (node := files.find(_INSTALLED)) is not None and node.is_file:
                installed.append(node)
        if len(installed) > 1:
            joined = b"".join(b"".join(content(node)) + b"\n\n" for node in installed)
            self.root.add(_INSTALLED, _text(joined, 0o644))

    @property
    def _default(self) -> Image:
        default = self._plan.default
        assert default is not None  # noqa: S101 - planned
        return default

    @cached_property
    def _default_tree(self) -> Node:
        initrd = self._default.initrd
        assert initrd is not None  # noqa: S101 - the default image has one
        return read_cpio(initrd)

    # -- volumes and containers --------------------------------------------------------------------

    def _add_volume(self, volume: Values) -> None:
        place = f"containers/volumes/{volume['name']}"
        self.root.make(f"{place}/lower")
        if is_layout(volume):
            self.root.put(write_layout(volume, self._plan), f"{place}/lower")
        elif volume.get("image"):
            self.root.put(prepare(self._tree(volume["image"]), _RESOLVER), f"{place}/lower")
        self.root.make(f"{place}/{CHANGES}")
        self.root.make(f"{place}/merged")

    def _add_container(self, entry: Values, place: str) -> None:
        address = entry["image"]
        image = self._plan.images[address]
        settings = Settings(entry, label_settings(address, image.labels))
        try:
            config = container_config(
                settings, image.run, self._plan.file.ids, self._plan.file.read_only_volumes
            )
        except InvalidError as error:
            error.what = f"{entry['name']} ({address}), on line {entry.owner.line}: {error.what}"
            raise
        if not any(config["process"].get("args", ())[:1]):
            raise InvalidError(
                f"the container {entry['name']}, on line {entry.owner.line}, has nothing to run",
                why=f"neither it nor {address} names a program (command, ENTRYPOINT, CMD)",
                todo="Give it a command.",
            )
        if address not in self._roots:
            self._roots[address] = f"{place}/{'rootfs' if settings.readonly else 'lower'}"
            self.root.put(prepare(self._tree(address)), self._roots[address])
        self.root.make(f"{place}/rootfs")
        if not settings.readonly:
            self.root.make(f"{place}/{CHANGES}")
        runtime = runtime_config(settings, f"/{place}", f"/{self._roots[address]}")
        for name, document in (("config.json", config), ("runtime.json", runtime)):
            self.root.add_text(f"{place}/{name}", json.dumps(document, indent=4) + "\n")

    # -- files -------------------------------------------------------------------------------------

    def _add_file(self, entry: Values) -> None:
        node = self._node(entry)
        if node is None:
            return
        node.uid, node.gid = (number(entry.get(name), self._plan.file.ids) for name in _OWNERS)
        self.root.add(entry["path"], node)

    def _node(self, entry: Values) -> Node | None:
        if entry.get("symlink"):
            return symlink(entry["symlink"])
        given = octal(entry["mode"]) if entry.get("mode") else None
        if entry.get("directory"):
            return directory(0o700 if given is None else given)
        permissions = 0o600 if given is None else given
        if entry.get("source"):
            path = self._plan.source(entry)
            return None if path is None else _file(path, permissions)
        text = entry.get("contents")
        if text is None:
            text = self._metadata(entry["metadata"])
        return _text(text.encode("utf-8", "surrogateescape"), permissions)

    def _metadata(self, form: str) -> str:
        found = self._plan.file.metadata()
        if form == "json":
            return json.dumps(found, indent=2) + "\n"
        text: str = yaml.safe_dump(found, sort_keys=False, allow_unicode=True)
        return text

    def _tree(self, address: str) -> Node:
        found = self._trees.get(address)
        if found is None:
            work = self._work / f"image-{len(self._trees)}"
            work.mkdir()
            self._plan.progress(f"unpacking {address}")
            image = self._plan.images[address]
            found = self._trees[address] = image_tree(image, work, lambda _: None)
        return found


_OWNERS = ("uid", "gid")


def _text(data: bytes, permissions: int) -> Node:
    pieces = (Piece(0, len(data), data=data),) if data else ()
    return Node(stat.S_IFREG | permissions, size=len(data), pieces=pieces)


def _file(path: Path, permissions: int = 0o600) -> Node:
    size = path.stat().st_size
    pieces = (Piece(0, size, path),) if size else ()
    return Node(stat.S_IFREG | permissions, size=size, pieces=pieces)

"""Reads ``image.yaml``: an image with all that its machines need, in one description.

::

    kernel: vmlinuz              # by default NAME-kernel, if there is only one
    initrd: initrd.img
    cmdline: root=/dev/vda rw net.ifnames=0
    disk: root.qcow2             # the first disk; without a kernel, what is booted
    memory: 768                  # MiB
    cpus: 2
    cpu: max,cx16=off            # as QEMU's -cpu takes it
    arch: x86_64                 # of a disk, which does not show it

Each field is optional; paths are relative to the description. It is read by YAML's nodes: each
mistake has its line and its field, and all are reported together.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from core_infra.errors import CoreInfraError, InvalidError, NotFoundError
from core_infra.vm._hardware import MINIMUM_MEMORY, check
from core_infra.vm._hypervisors.processor import check_processor
from core_infra.vm._images.formats import (
    DiskImage,
    ImageFormat,
    checked_arch,
    detect_format,
    host_arch,
)
from core_infra.vm._images.image import (
    arch_of_kernel,
    beside,
    check_content,
    kernel_image,
    only_kernel,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core_infra.vm._images.formats import Bootable

    T = TypeVar("T")

_LARGEST = 64 << 10
_TAG = "tag:yaml.org,2002:"
_FIELDS = {
    "kernel": "str",
    "initrd": "str",
    "cmdline": "str",
    "disk": "str",
    "memory": "int",
    "cpus": "int",
    "cpu": "str",
    "arch": "str",
}
_EXPECTED = {"str": "a text", "int": "a whole number"}


def read_definition(path: Path, arch: str | None = None) -> Bootable:
    """The image that a description describes.

    Args:
        path: the description.
        arch: of a disk whose description does not say; None is this host's.

    Raises:
        InvalidError: it cannot be used; has all mistakes, each with its line and field.
        NotFoundError: it describes neither a kernel nor a disk, and there is no kernel beside it.
    """
    document = _Document(path)
    values = {name: document.take(name) for name in _FIELDS}
    kernel = document.checked("kernel", lambda: _existing(path, values["kernel"]))
    if kernel is not None:
        document.checked("kernel", partial(arch_of_kernel, kernel))
    initrd = document.checked("initrd", lambda: _existing(path, values["initrd"]))
    disk = document.checked("disk", lambda: _existing(path, values["disk"]))
    format_ = None if disk is None else document.checked("disk", partial(_format, disk, kernel))
    memory, cpus = values["memory"], values["cpus"]
    document.checked("memory", lambda: None if memory is None else check(memory, 1))
    document.checked("cpus", lambda: None if cpus is None else check(MINIMUM_MEMORY, cpus))
    document.checked("cpu", lambda: check_processor(values["cpu"]))
    wanted = document.checked(
        "arch", lambda: None if values["arch"] is None else checked_arch(values["arch"])
    )
    document.finish()
    if kernel is None and "initrd" not in document.lines:
        kernel = only_kernel(path.parent)
    name = path.parent.name if path.name == "image.yaml" else path.stem
    found: Bootable
    if kernel is not None:
        default, cmdline = beside(kernel)
        text = cmdline if values["cmdline"] is None else " ".join(values["cmdline"].split())
        found = kernel_image(kernel, initrd or default, text, name=name, disk=disk)
    elif disk is not None and format_ is not None:
        document.need_kernel("initrd", "cmdline")
        found = DiskImage(disk, format_, wanted or arch or host_arch(), name)
    else:
        raise NotFoundError(
            f"{path} describes no image",
            why="it names neither a kernel nor a disk, and there is no NAME-kernel beside it",
            todo="Name one of them, as kernel: FILE or disk: FILE.",
        )
    if wanted is not None and found.arch != wanted:
        document.mistake("arch", f"the kernel is for {found.arch}")
        document.finish()
    return replace(found, memory=memory, cpus=cpus, cpu=values["cpu"])


class _Document:
    """The fields of a description, and what is wrong with them.

    Attributes:
        lines: of each field that is there, its line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mistakes: list[tuple[int, str]] = []
        self._nodes: dict[str, yaml.Node] = {}
        self.lines: dict[str, int] = {}
        self._read()

    def take(self, name: str) -> Any:
        """The value of a field; None if it is missing, null or of the wrong type."""
        node = self._nodes.get(name)
        if node is None or node.tag == f"{_TAG}null":
            return None
        kind = _FIELDS[name]
        if not isinstance(node, yaml.ScalarNode) or node.tag != _TAG + kind:
            shown = f", not {node.value!r}" if isinstance(node, yaml.ScalarNode) else ""
            hint = "; put it in quotes" if kind == "str" and shown else ""
            self.mistake(name, f"this must be {_EXPECTED[kind]}{shown}{hint}")
            return None
        value = str(node.value)
        if kind == "str" and not value.strip():
            self.mistake(name, "this is empty")
            return None
        if kind == "int":
            try:
                return int(value)
            except ValueError:
                self.mistake(name, f"this must be a number in decimal digits, not {value!r}")
                return None
        return value

    def checked(self, name: str, look: Callable[[], T]) -> T | None:
        """What *look* returns; its error becomes a mistake of the field."""
        try:
            return look()
        except CoreInfraError as error:
            self.mistake(name, f"{error.what}: {error.why}" if error.why else error.what)
            return None

    def need_kernel(self, *names: str) -> None:
        """Fields that mean nothing without a kernel are mistakes."""
        for name in names:
            if name in self.lines:
                self.mistake(name, "there is no kernel that could take it: name one as kernel:")
        self.finish()

    def mistake(self, name: str, text: str) -> None:
        """Note what is wrong with a field."""
        line = self.lines.get(name, 1)
        self._mistakes.append((line, f"line {line}, {name}: {text}"))

    def finish(self) -> None:
        """Raise InvalidError if anything was wrong."""
        if self._mistakes:
            lines = [text for _, text in sorted(self._mistakes, key=lambda found: found[0])]
            raise InvalidError(
                f"cannot use the image {self._path}",
                why="\n".join(lines),
                todo=f"Fields are {', '.join(_FIELDS)}.",
                mistakes=lines,
            )

    def _read(self) -> None:
        top = self._compose()
        if top is None or top.tag == f"{_TAG}null":
            return
        if not isinstance(top, yaml.MappingNode):
            raise self._unreadable(top.start_mark, "this must be fields, such as disk: root.qcow2")
        for key, node in top.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
            known = name in self.lines
            self.lines.setdefault(name, key.start_mark.line + 1)
            if name not in _FIELDS:
                self.mistake(name, "there is no such field")
            elif known:
                line = key.start_mark.line + 1
                self._mistakes.append((line, f"line {line}, {name}: the field is there twice"))
            self._nodes[name] = node

    def _compose(self) -> yaml.Node | None:
        try:
            data = self._path.read_bytes()
            if len(data) > _LARGEST:
                raise InvalidError(
                    f"cannot use the image {self._path}",
                    why=f"it has {len(data)} bytes; {_LARGEST} are the most",
                )
            node: yaml.Node | None = yaml.compose(data.decode("utf-8-sig"), Loader=yaml.SafeLoader)
        except OSError as error:
            raise InvalidError(
                f"cannot read the image {self._path}", why=error.strerror or str(error)
            ) from error
        except yaml.MarkedYAMLError as error:
            why = " ".join(filter(None, (error.context, error.problem)))
            raise self._unreadable(error.problem_mark, f"no valid YAML: {why}") from None
        except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
            raise self._unreadable(None, f"no valid YAML: {error}") from None
        return node

    def _unreadable(self, mark: yaml.Mark | None, why: str) -> InvalidError:
        line = 1 if mark is None else mark.line + 1
        text = f"line {line}: {why}"
        return InvalidError(f"cannot use the image {self._path}", why=text, mistakes=[text])


def _existing(description: Path, value: str | None) -> Path | None:
    if value is None:
        return None
    path = description.parent / value
    check_content(path)
    return path


def _format(disk: Path, kernel: Path | None) -> ImageFormat:
    found = detect_format(disk)
    if found is ImageFormat.KERNEL or (found is ImageFormat.ISO and kernel is not None):
        raise InvalidError(f"cannot use {disk} as a disk", why=f"it is {found}")
    return found

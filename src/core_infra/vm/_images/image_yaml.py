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

Each field is optional; paths are relative to the description. All mistakes are reported together,
each with its line and its field.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from core_infra._yaml.document import Document
from core_infra._yaml.reading import read_document, whole
from core_infra.errors import CoreInfraError, InvalidError, NotFoundError
from core_infra.vm._hardware import MAXIMUM_CPUS, check_memory_and_cpus, check_processor
from core_infra.vm._images.formats import ImageFormat, detect_format
from core_infra.vm._images.image import DiskImage, checked_arch, host_arch
from core_infra.vm._images.kernel_set import (
    arch_of_kernel,
    check_content,
    files_beside,
    kernel_image,
    only_kernel,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core_infra._yaml.field import Field, Fields
    from core_infra.vm._images.image import Bootable

    T = TypeVar("T")

DESCRIPTION = "image.yaml"
"""The name of the description in an image's directory."""

DESCRIPTIONS = (".yaml", ".yml")
"""The extensions of descriptions with other names."""

_LARGEST = 64 << 10
_FIELDS = ("kernel", "initrd", "cmdline", "disk", "memory", "cpus", "cpu", "arch")


def read_description(path: Path, arch: str | None = None) -> Bootable:
    """The image of a description.

    Args:
        path: the description.
        arch: the architecture of a disk whose description does not name it; None is this host's.

    Raises:
        InvalidFileError: the description has mistakes; lists all of them.
        InvalidError: it cannot be read.
        NotFoundError: it names neither a kernel nor a disk, and there is no kernel beside it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidError(
            f"cannot read the image {path}", why=error.strerror or str(error)
        ) from error
    document = Document(data, str(path), size_max=_LARGEST, null_is_missing=True)

    def read(root: Field) -> Bootable | None:
        fields = root.fields(_FIELDS)
        found = _Description(fields, path.parent)
        return None if document.mistakes else found.image(path, arch)

    image = read_document(document, read)
    document.check()
    assert image is not None  # noqa: S101 - without a mistake there is an image
    return image


class _Description:
    """The values of a description; mistakes are noted."""

    def __init__(self, fields: Fields, directory: Path) -> None:
        self.format: ImageFormat | None = None

        def existing(field: Field) -> Path:
            path = directory / _text(field)
            _check(field, lambda: check_content(path))
            return path

        def kernel(field: Field) -> Path:
            path = existing(field)
            _check(field, lambda: arch_of_kernel(path))
            return path

        def disk(field: Field) -> Path:
            path = existing(field)
            self.format = _check(field, lambda: _format(path, self.kernel))
            return path

        self._fields = fields
        self.kernel = fields.optional("kernel", kernel, None)
        self.initrd = fields.optional("initrd", existing, None)
        self.cmdline = fields.optional("cmdline", _text, None)
        self.disk = fields.optional("disk", disk, None)
        self.memory = fields.optional("memory", _memory, None)
        self.cpus = fields.optional("cpus", whole(1, MAXIMUM_CPUS), None)
        self.cpu = fields.optional("cpu", _processor, None)
        self.arch = fields.optional("arch", _arch, None)

    def image(self, path: Path, arch: str | None) -> Bootable | None:
        """The image; None if the fields do not fit together, which is noted."""
        kernel = self.kernel
        if kernel is None and self.initrd is None:
            kernel = only_kernel(path.parent)
        name = path.parent.name if path.name == DESCRIPTION else path.stem
        found: Bootable
        if kernel is not None:
            default, cmdline = files_beside(kernel)
            text = cmdline if self.cmdline is None else " ".join(self.cmdline.split())
            found = kernel_image(kernel, self.initrd or default, text, name=name, disk=self.disk)
        elif self.disk is not None and self.format is not None:
            for field in (self._fields.get("initrd"), self._fields.get("cmdline")):
                if field is not None:
                    field.note_key("it needs a kernel: name one as kernel:", "a kernel")
            found = DiskImage(self.disk, self.format, self.arch or arch or host_arch(), name)
        else:
            raise NotFoundError(
                f"{path} describes no image",
                why="it names neither a kernel nor a disk, and there is no NAME-kernel beside it",
                todo="Name one of them, as kernel: FILE or disk: FILE.",
            )
        if self.arch is not None and found.arch != self.arch:
            self._fields["arch"].note(f"the kernel is for {found.arch}", found.arch)
        return replace(found, memory=self.memory, cpus=self.cpus, cpu=self.cpu)


def _text(field: Field) -> str:
    text = field.string()
    if not text.strip():
        field.fail("it must not be empty", "a string")
    return text


def _memory(field: Field) -> int:
    memory = whole(1)(field)
    _check(field, lambda: check_memory_and_cpus(memory, 1))
    return memory


def _processor(field: Field) -> str:
    model = field.string()
    _check(field, lambda: check_processor(model))
    return model


def _arch(field: Field) -> str:
    given = field.string()
    return _check(field, lambda: checked_arch(given))


def _check(field: Field, look: Callable[[], T]) -> T:
    """The result of *look*; its error becomes a mistake of the field."""
    try:
        return look()
    except CoreInfraError as error:
        field.fail(f"{error.what}: {error.why}" if error.why else error.what)


def _format(disk: Path, kernel: Path | None) -> ImageFormat:
    found = detect_format(disk)
    if found is ImageFormat.KERNEL or (found is ImageFormat.ISO and kernel is not None):
        raise InvalidError(f"cannot use {disk} as a disk", why=f"it is {found}")
    return found

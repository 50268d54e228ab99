"""A LinuxKit file, or several merged into one, and the mistakes that only the whole shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core_infra._yaml.document import Document
from core_infra._yaml.mistakes import file_error, in_order
from core_infra._yaml.reading import read_document
from core_infra.errors import InvalidFileError
from core_infra.vm._images.linuxkit import notations
from core_infra.vm._images.linuxkit.schema import read_file
from core_infra.vm._images.oci.reference import is_oci

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from core_infra._yaml.field import Field
    from core_infra.vm._images.linuxkit.readers import Values

SECTIONS = ("onboot", "onshutdown", "services")
"""The lists of containers, in the order in which they are numbered and built."""
_FIRST_ID = 100
_KERNEL = ("image", "cmdline", "binary", "tar", "ucode")
_IDS = ("uid", "gid")
_SHADOWED = ("run/", "tmp/", "var/")


@dataclass
class LinuxKitFile:
    """What a machine is assembled of.

    Attributes:
        kernel: the fields of the section, those that are empty left out.
        init: the images of the root file system, in order.
        containers: the entries of each of SECTIONS.
        volumes: the entries of the section.
        files: the entries of the section.
        ids: the user and group ID of each container's name.
    """

    kernel: dict[str, str] = field(default_factory=dict)
    init: list[str] = field(default_factory=list)
    containers: dict[str, list[Values]] = field(
        default_factory=lambda: {name: [] for name in SECTIONS}
    )
    volumes: list[Values] = field(default_factory=list)
    files: list[Values] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)

    @property
    def read_only_volumes(self) -> dict[str, bool]:
        """Each volume's name, and whether it is read-only."""
        named = (one for one in self.volumes if one.get("name"))  # not those with a mistake there
        return {str(one["name"]): bool(one.get("readonly")) for one in named}

    def images(self) -> list[str]:
        """Return the addresses of all images, each once."""
        found = self.unpacked_images()
        found += [one["image"] for one in self.volumes if is_layout(one)]
        return list(dict.fromkeys(found))

    def unpacked_images(self) -> list[str]:
        """Return the addresses of the images whose files are used, in the order of their use."""
        found = [self.kernel["image"]] if "image" in self.kernel else []
        found += self.init
        found += [one["image"] for one in self.volumes if one.get("image") and not is_layout(one)]
        found += [one["image"] for _, one in self.all_containers()]
        return list(dict.fromkeys(found))

    def all_containers(self) -> Iterator[tuple[str, Values]]:
        """Yield each container with its section, in the order in which they are built."""
        for section in SECTIONS:
            for entry in self.containers[section]:
                yield section, entry

    def metadata(self) -> dict[str, Any]:
        """Return the whole as it was resolved, as a file has it."""
        lists = {"init": self.init, **self.containers, "files": self.files, "volumes": self.volumes}
        found = {"kernel": self.kernel} | lists
        return {name: _plain(value) for name, value in found.items() if value}


def read_linuxkit(files: Sequence[tuple[str, bytes]]) -> LinuxKitFile:
    """Read files and merge them from the first to the last.

    Args:
        files: the name that errors show, and the content of each; all variables are filled in.

    Raises:
        InvalidFileError: there are mistakes; it has all of them, without the files' values.
    """
    documents = [Document(data, name, has_block_comments=True) for name, data in files]
    found = LinuxKitFile()
    for document in documents:
        values = read_document(document, read_file)
        if values is not None:
            _merge(found, values)
    _number(found)
    _check(found)
    mistakes = in_order([one for document in documents for one in document.mistakes])
    if mistakes:
        raise file_error(InvalidFileError, mistakes[0].file, mistakes)
    return found


def check_linuxkit(text: str, file: str) -> None:
    """Raise InvalidFileError if a LinuxKit file has mistakes.

    Args:
        text: the file, with all variables filled in. Errors do not show its values.
        file: what errors call it.
    """
    read_linuxkit([(file, text.encode())])


def located(address: str, bases: Sequence[Path]) -> str:
    """Return the address of an image as the reader of OCI images takes it."""
    if not is_oci(address):
        return f"oci:{address}"
    scheme, _, path = address.partition(":")
    directory, colon, name = path.rpartition(":")
    if colon and not beside(path, bases).exists():
        return f"{scheme}:{beside(directory, bases)}:{name}"
    return f"{scheme}:{beside(path, bases)}"


def beside(path: str, bases: Sequence[Path]) -> Path:
    """Return a path in the first of some directories that has it; else in the first of all."""
    places = [base / path for base in bases]
    return next((place for place in places if place.exists()), places[0])


def shadowed(found: LinuxKitFile) -> list[str]:
    """Return the paths of files that the guest hides when it mounts its temporary directories."""
    paths = [str(one.get("path", "")).lstrip("/") for one in found.files]
    return [path for path in paths if path.startswith(_SHADOWED)]


def is_layout(volume: Values) -> bool:
    """Whether a volume holds an image itself, for several platforms, and not its files."""
    return bool(volume.get("image")) and volume.get("format") == "oci"


def _merge(found: LinuxKitFile, values: Values) -> None:
    kernel = values.get("kernel") or {}
    found.kernel |= {name: kernel[name] for name in _KERNEL if kernel.get(name)}
    # An empty tar is one, too: there is none.
    if kernel.get("tar") == "":
        found.kernel["tar"] = "none"
    found.init += values.get("init") or ()
    for section in SECTIONS:
        found.containers[section] += values.get(section) or ()
    found.volumes += values.get("volumes") or ()
    found.files += values.get("files") or ()


def _number(found: LinuxKitFile) -> None:
    number = _FIRST_ID
    for _, entry in found.all_containers():
        found.ids[str(entry.get("name"))] = number
        number += 1


def _check(found: LinuxKitFile) -> None:
    _check_unique(found.containers["services"], "service")
    _check_unique(found.volumes, "volume")
    volumes = found.read_only_volumes
    for _, entry in found.all_containers():
        _check_ids(entry, found.ids)
        for name in ("binds", "binds.add"):
            if entry.get(name):
                _check_binds(entry.fields[name], volumes)
        for mount in entry.get("mounts") or ():
            _check_mount(mount, volumes)
    for entry in found.files:
        _check_ids(entry, found.ids)


def _check_unique(entries: Sequence[Values], what: str) -> None:
    seen: set[str] = set()
    for entry in entries:
        name = entry.get("name")
        if name is not None and name in seen:
            entry.fields["name"].note(f"another {what} has the same name {name!r}")
        seen.add(str(name))


def _check_ids(entry: Values, ids: Mapping[str, int]) -> None:
    for name in _IDS:
        if name in entry:
            _check_id(entry.fields[name], entry[name], ids)
    if "additionalGids" in entry.fields:
        for item, value in _items(entry, "additionalGids"):
            _check_id(item, value, ids)


def _items(entry: Values, name: str) -> Iterator[tuple[Field, Any]]:
    values = entry.get(name) or ()
    items = entry.fields[name].items() if values else []
    if len(items) == len(values):  # otherwise one of them has a mistake of its own
        yield from zip(items, values, strict=True)


def _check_id(place: Field, value: object, ids: Mapping[str, int]) -> None:
    if isinstance(value, str) and value not in {"", "root", *ids}:
        place.note(
            f"no container has the name {value!r}; a number is written without quotes",
            "root, the name of a container, or a number",
        )


def _check_binds(binds: Field, volumes: Mapping[str, bool]) -> None:
    for item in binds.items():
        try:
            mount = notations.bind(item.scalar)
        except ValueError:
            continue  # noted already
        if (problem := volume_problem(mount, volumes)) is not None:
            item.note(problem)


def _check_mount(values: Values, volumes: Mapping[str, bool]) -> None:
    try:
        mount = notations.mount(values)
    except ValueError:
        return
    if mount["type"] == "bind" and (problem := volume_problem(mount, volumes)) is not None:
        values.owner.note(problem)


def volume_problem(mount: Mapping[str, Any], volumes: Mapping[str, bool]) -> str | None:
    """Return why a bind cannot be of the volume that it names; None if it can, or names none."""
    source = str(mount["source"])
    if source.startswith("/"):
        return None
    if source not in volumes:
        names = f"there are {', '.join(volumes)}" if volumes else "there are none"
        return f"there is no volume {source!r}; {names}. A path begins with /"
    if volumes[source] and "ro" not in mount.get("options", ()):
        return f"the volume {source!r} is read-only; write SOURCE:DESTINATION:ro"
    return None


def _plain(value: object) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value

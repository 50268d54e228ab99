"""The fields of a LinuxKit file, as ``linuxkit`` itself accepts them.

They are those of LinuxKit's own ``moby/schema.go``. They are checked here so that a mistake has its
line, and is found before an image is built. What is read is as the file has it: a mapping is a
:class:`Values`, which has only the fields that are given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core_infra._yaml.field import Field
from core_infra._yaml.reading import each, each_value, one_of
from core_infra.errors import InvalidError
from core_infra.vm._images.linuxkit import notations
from core_infra.vm._images.oci.reference import is_oci, parse_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Read = Callable[[Field], Any]

_PACKAGE = "@pkg:"
_REGISTRY = "oci:"


class Values(dict[str, Any]):
    """The fields of a mapping that are given.

    Attributes:
        owner: the mapping in its document.
        fields: the fields in it, for mistakes that only another part of the file shows.
    """

    def __init__(self, owner: Field, fields: Mapping[str, Field]) -> None:
        super().__init__()
        self.owner = owner
        self.fields = fields


def read_file(top: Field) -> Values:
    """Read a whole file. Errors do not show its values: the variables in it may be secrets."""
    if top.kind == "null":
        return Values(top, {})
    found: Values = _mapping(_FILE)(top.private())
    return found


def read_label(top: Field) -> Values:
    """Read what an image's own label says of the containers that are made of it."""
    if top.kind == "null":
        return Values(top, {})
    found: Values = _mapping(_CONTAINER)(top)
    return found


def _mapping(known: Mapping[str, Read], *required: str) -> Read:
    """Reads a mapping with these fields."""

    def read(field: Field) -> Values:
        fields = field.fields(known)
        found = Values(field, fields)
        for name, read_one in known.items():
            if name in fields:
                found[name] = fields.optional(name, read_one, None)
            elif name in required:
                fields.required(name, read_one, None)
        return found

    return read


def _string(field: Field) -> str:
    # Versions of YAML differ in what else they take for strings without quotes.
    if field.kind == "timestamp" or (field.kind == "int" and ":" in field.scalar):
        return field.scalar
    if field.kind == "bool" and field.scalar.lower() not in {"true", "false"}:
        return field.scalar
    return field.string()


def _number(field: Field) -> int:
    value = field.value() if field.kind == "int" else None
    if not isinstance(value, int):
        field.reject("a whole number")
    return value


def _id(field: Field) -> int | str:
    if field.kind != "int":
        return _string(field)
    number = _number(field)
    if not 0 <= number < 1 << 32:
        field.reject("a number from 0 to 4294967295")
    return number


def _text(parse: Callable[[str], object]) -> Read:
    """Reads a string that a notation can be made of."""

    def read(field: Field) -> str:
        text = _string(field)
        try:
            parse(text)
        except ValueError as error:
            field.fail(str(error))
        return text

    return read


def _reference(field: Field) -> str:
    """Reads the address of an image: a name in a registry becomes a whole one."""
    text = _string(field)
    if text.startswith(_PACKAGE):
        field.fail(
            "a package of LinuxKit's sources (@pkg:) must be built by linuxkit; name its image here"
        )
    if is_oci(text) and not text.startswith(_REGISTRY):
        return text
    try:
        return str(parse_reference(text.removeprefix(_REGISTRY)))
    except InvalidError as error:
        field.fail(f"{error.what}: {error.why}", "NAME:TAG")


def _mount(field: Field) -> Values:
    found: Values = _MOUNT(field)
    try:
        notations.mount(found)
    except ValueError as error:
        field.fail(str(error))
    return found


def _capabilities(field: Field) -> tuple[str, ...]:
    items = field.items()
    texts = [item.take(_string, "") for item in items]
    if [text.lower() for text in texts] in (["all"], ["none"]):
        return tuple(texts)
    return each(_text(notations.capability))(field)


def _volume(field: Field) -> Values:
    found: Values = _VOLUME(field)
    if found.get("format") == "oci" and not found.get("image"):
        field.note("a volume of format oci needs an image")
    return found


def _file(field: Field) -> Values:
    found: Values = _ENTRY(field)
    names = set((found.get("path") or "").split("/"))
    if "path" in found and (names <= {"", "."} or ".." in names):
        found.fields["path"].note("the path must name a file below the root")
    kinds = [
        name
        for name in ("directory", "symlink", "contents", "source", "metadata")
        if found.get(name) or (name == "contents" and found.get(name) == "")  # an empty file
    ]
    if len(kinds) > 1:
        found.fields[kinds[1]].note(f"a file has either {kinds[0]} or {kinds[1]}")
    elif not kinds:
        field.note("a file needs one of directory, symlink, contents, source and metadata")
    return found


_STRINGS = each(_string)
_NAMED_STRINGS = each_value(_string)


def _strings(*names: str) -> dict[str, Read]:
    return dict.fromkeys(names, _string)


def _lists(*names: str) -> dict[str, Read]:
    return dict.fromkeys(names, _STRINGS)


def _numbers(*names: str) -> dict[str, Read]:
    return dict.fromkeys(names, _number)


def _flags(*names: str) -> dict[str, Read]:
    return dict.fromkeys(names, Field.flag)


_ID_MAPPINGS = each(_mapping(_numbers("hostID", "containerID", "size")))
_MOUNT = _mapping(
    {
        **_strings("destination", "type", "source"),
        **_lists("options"),
        "uidmappings": _ID_MAPPINGS,
        "gidmappings": _ID_MAPPINGS,
    }
)
_RATES = each(_mapping(_numbers("major", "minor", "rate")))
_DEVICES = ("c", "b", "u", "p", "a")  # as mknod(1) names them; a: all, of a rule for path: all
_RESOURCES = _mapping(
    {
        "devices": each(
            _mapping(
                {**_flags("allow"), **_strings("type", "access"), **_numbers("major", "minor")}
            )
        ),
        "memory": _mapping(
            {
                **_numbers("limit", "reservation", "swap", "kernel", "kernelTCP", "swappiness"),
                **_flags("disableOOMKiller"),
            }
        ),
        "cpu": _mapping(
            {
                **_numbers("shares", "quota", "period", "realtimeRuntime", "realtimePeriod"),
                **_strings("cpus", "mems"),
            }
        ),
        "pids": _mapping(_numbers("limit")),
        "blockio": _mapping(
            {
                **_numbers("weight", "leafWeight"),
                "weightDevice": each(_mapping(_numbers("major", "minor", "weight", "leafWeight"))),
                "throttleReadBpsDevice": _RATES,
                "throttleWriteBpsDevice": _RATES,
                "throttleReadIOPSDevice": _RATES,
                "throttleWriteIOPSDevice": _RATES,
            }
        ),
        "hugepageLimits": each(_mapping(_numbers("pageSize", "limit"))),
        "network": _mapping(
            {
                **_numbers("classID"),
                "priorities": each(_mapping({**_strings("name"), **_numbers("priority")})),
            }
        ),
    }
)
_RUNTIME = _mapping(
    {
        **_lists("cgroups", "mkdir"),
        **_strings("namespace"),
        "mounts": each(_MOUNT),
        "interfaces": each(_mapping({**_strings("name", "add", "peer"), **_flags("createInRoot")})),
        "bindNS": _mapping(_strings("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")),
    }
)
_CONTAINER: dict[str, Read] = {
    **_strings("cwd", "hostname", "rootfsPropagation", "cgroupsPath"),
    **dict.fromkeys(("pid", "ipc", "uts", "userns"), _text(notations.namespace)),
    "net": _text(notations.network_namespace),
    **dict.fromkeys(("capabilities", "capabilities.add", "ambient"), _capabilities),
    **dict.fromkeys(("binds", "binds.add"), each(_text(notations.bind))),
    "tmpfs": each(_text(notations.tmpfs)),
    "rlimits": each(_text(notations.rlimit)),
    **_lists("command", "env", "maskedPaths", "readonlyPaths"),
    **_flags("readonly", "noNewPrivileges"),
    **_numbers("oomScoreAdj"),
    "mounts": each(_mount),
    "devices": each(
        _mapping(
            {
                **_strings("path"),
                "type": one_of(_DEVICES),
                "mode": _text(notations.octal),
                **_numbers("major", "minor"),
            },
            "path",
            "type",
        )
    ),
    "uid": _id,
    "gid": _id,
    "additionalGids": each(_id),
    "resources": _RESOURCES,
    "sysctl": _NAMED_STRINGS,
    "uidMappings": _ID_MAPPINGS,
    "gidMappings": _ID_MAPPINGS,
    "annotations": _NAMED_STRINGS,
    "runtime": _RUNTIME,
}
_IMAGES = each(
    _mapping(
        {"name": _text(notations.container_name), "image": _reference} | _CONTAINER,
        "name",
        "image",
    )
)
_ENTRY = _mapping(
    {
        **_strings("path", "symlink", "contents", "source"),
        "metadata": one_of(("yaml", "json")),
        "mode": _text(notations.octal),
        **_flags("directory", "optional"),
        "uid": _id,
        "gid": _id,
    },
    "path",
)
_VOLUME = _mapping(
    {
        "name": _text(notations.volume_name),
        "image": _reference,
        **_flags("readonly"),
        **_lists("platforms"),
        "format": one_of(("oci", "filesystem")),
    },
    "name",
)
_FILE: dict[str, Read] = {
    "kernel": _mapping({"image": _reference, **_strings("cmdline", "binary", "tar", "ucode")}),
    "init": each(_reference),
    "onboot": _IMAGES,
    "onshutdown": _IMAGES,
    "services": _IMAGES,
    "trust": _mapping(_lists("image", "org")),
    "files": each(_file),
    "volumes": each(_volume),
}

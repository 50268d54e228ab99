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
from core_infra.vm._images.linuxkit.readers import (
    Values,
    identifier,
    mapping,
    or_empty,
    string,
    text,
    whole,
)
from core_infra.vm._images.oci.reference import is_oci, parse_reference

if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[[Field], Any]

_PACKAGE = "@pkg:"
_REGISTRY = "oci:"


def read_file(top: Field) -> Values:
    """Read a whole file. Errors do not show its values: the variables in it may be secrets."""
    if top.kind == "null":
        return Values(top, {})
    found: Values = mapping(_FILE)(top.private())
    return found


def read_label(top: Field) -> Values:
    """Read what an image's own label says of the containers that are made of it."""
    if top.kind == "null":
        return Values(top, {})
    found: Values = mapping(_CONTAINER)(top)
    return found


def _reference(field: Field) -> str:
    """Reads the address of an image: a name in a registry becomes a whole one."""
    text = string(field)
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
    texts = [item.take(string, "") for item in items]
    if [text.lower() for text in texts] in (["all"], ["none"]):
        return tuple(texts)
    return each(text(notations.capability))(field)


def _device(field: Field) -> Values:
    found: Values = _DEVICE(field)
    if found.get("type") == "a" and found.get("path") != "all":
        found.fields["type"].note("only the path all has the type a", "one of b, c, p, u")
    return found


def _interface(field: Field) -> Values:
    found: Values = _INTERFACE(field)
    try:
        notations.interface(found)
    except ValueError as error:
        field.fail(str(error))
    return found


def _sysctl(field: Field) -> dict[str, str]:
    found: dict[str, str] = _NAMED_STRINGS(field)
    for name, entry in field.entries().items():
        try:
            notations.sysctl_namespace(name)
        except ValueError as error:
            entry.note_key(str(error))
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


_STRINGS = each(string)
_NAMED_STRINGS = each_value(string)


def _strings(*names: str) -> dict[str, Read]:
    return dict.fromkeys(names, string)


def _lists(*names: str) -> dict[str, Read]:
    return dict.fromkeys(names, _STRINGS)


def _numbers(read: Read, *names: str) -> dict[str, Read]:
    return dict.fromkeys(names, read)


def _signed(*names: str) -> dict[str, Read]:
    return _numbers(whole(-(1 << 63), (1 << 63) - 1), *names)


def _unsigned(*names: str) -> dict[str, Read]:
    return _numbers(whole(0, (1 << 64) - 1), *names)


def _flags(*names: str) -> dict[str, Read]:
    return dict.fromkeys(names, Field.flag)


_UINT16, _UINT32 = whole(0, (1 << 16) - 1), whole(0, (1 << 32) - 1)
_ID_MAPPINGS = each(mapping(_numbers(_UINT32, "hostID", "containerID", "size")))
_MOUNT = mapping(
    {
        **_strings("destination", "type", "source"),
        **_lists("options"),
        "uidmappings": _ID_MAPPINGS,
        "gidmappings": _ID_MAPPINGS,
    }
)
_RATES = each(mapping(_signed("major", "minor") | _unsigned("rate")))
_DEVICES = ("c", "b", "u", "p", "a")  # as mknod(1) names them; a: all, of a rule for path: all
_WEIGHTS = _numbers(_UINT16, "weight", "leafWeight")
_RULES = ("a", "b", "c")
_DEVICE = mapping(
    {
        **_strings("path"),
        "type": one_of(_DEVICES),
        "mode": or_empty(text(notations.octal)),
        **_signed("major", "minor"),
    },
    "path",
    "type",
)
_RESOURCES = mapping(
    {
        "devices": each(
            mapping(
                {
                    **_flags("allow"),
                    **_signed("major", "minor"),
                    "type": or_empty(one_of(_RULES)),
                    "access": text(notations.access),
                }
            )
        ),
        "memory": mapping(
            {
                **_signed("limit", "reservation", "swap", "kernel", "kernelTCP"),
                **_unsigned("swappiness"),
                **_flags("disableOOMKiller"),
            }
        ),
        "cpu": mapping(
            {
                **_signed("quota", "realtimeRuntime"),
                **_unsigned("shares", "period", "realtimePeriod"),
                **dict.fromkeys(("cpus", "mems"), text(notations.cpu_list)),
            }
        ),
        "pids": mapping(_signed("limit")),
        "blockio": mapping(
            {
                **_WEIGHTS,
                "weightDevice": each(mapping(_signed("major", "minor") | _WEIGHTS)),
                "throttleReadBpsDevice": _RATES,
                "throttleWriteBpsDevice": _RATES,
                "throttleReadIOPSDevice": _RATES,
                "throttleWriteIOPSDevice": _RATES,
            }
        ),
        "hugepageLimits": each(mapping(_unsigned("pageSize", "limit"))),
        "network": mapping(
            {
                **_numbers(_UINT32, "classID"),
                "priorities": each(mapping({**_strings("name"), **_numbers(_UINT32, "priority")})),
            }
        ),
    }
)
_INTERFACE = mapping(
    {**_strings("name", "add", "peer"), **_flags("createInRoot")},
)
_RUNTIME = mapping(
    {
        **_lists("cgroups", "mkdir"),
        **_strings("namespace"),
        "mounts": each(_MOUNT),
        "interfaces": each(_interface),
        "bindNS": mapping(_strings("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")),
    }
)
_CONTAINER: dict[str, Read] = {
    **_strings("cwd", "hostname", "cgroupsPath"),
    "rootfsPropagation": or_empty(one_of(notations.PROPAGATIONS)),
    **dict.fromkeys(("pid", "ipc", "uts", "userns"), text(notations.namespace)),
    "net": text(notations.network_namespace),
    **dict.fromkeys(("capabilities", "capabilities.add", "ambient"), _capabilities),
    **dict.fromkeys(("binds", "binds.add"), each(text(notations.bind))),
    "tmpfs": each(text(notations.tmpfs)),
    "rlimits": each(text(notations.rlimit)),
    **_lists("command", "env", "maskedPaths", "readonlyPaths"),
    **_flags("readonly", "noNewPrivileges"),
    "oomScoreAdj": whole(-1000, 1000),
    "mounts": each(_mount),
    "devices": each(_device),
    "uid": identifier,
    "gid": identifier,
    "additionalGids": each(identifier),
    "resources": _RESOURCES,
    "sysctl": _sysctl,
    "uidMappings": _ID_MAPPINGS,
    "gidMappings": _ID_MAPPINGS,
    "annotations": _NAMED_STRINGS,
    "runtime": _RUNTIME,
}
_IMAGES = each(
    mapping(
        {"name": text(notations.container_name), "image": _reference} | _CONTAINER,
        "name",
        "image",
    )
)
_ENTRY = mapping(
    {
        **_strings("path", "symlink", "contents", "source"),
        "metadata": or_empty(one_of(("yaml", "json"))),
        "mode": or_empty(text(notations.octal)),
        **_flags("directory", "optional"),
        "uid": identifier,
        "gid": identifier,
    },
    "path",
)
_VOLUME = mapping(
    {
        "name": text(notations.volume_name),
        "image": or_empty(_reference),
        **_flags("readonly"),
        "platforms": each(text(notations.platform)),
        "format": one_of(("oci", "filesystem")),
    },
    "name",
)
_FILE: dict[str, Read] = {
    "kernel": mapping(
        {"image": or_empty(_reference), **_strings("cmdline", "binary", "tar", "ucode")}
    ),
    "init": each(_reference),
    "onboot": _IMAGES,
    "onshutdown": _IMAGES,
    "services": _IMAGES,
    "trust": mapping(_lists("image", "org")),
    "files": each(_file),
    "volumes": each(_VOLUME),
}

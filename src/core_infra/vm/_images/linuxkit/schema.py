"""The fields of a LinuxKit file, as ``linuxkit`` itself accepts them.

They are those of LinuxKit's own ``moby/schema.go``. They are checked here, too, so that a mistake
has its line, and is found before an image is built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra._yaml.field import Field
from core_infra._yaml.reading import each, each_value, one_of, read_yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Read = Callable[[Field], object]


def check_linuxkit(text: str, file: str) -> None:
    """Raise InvalidFileError if a LinuxKit file has mistakes.

    Args:
        text: the file, with all variables filled in. Errors do not show its values.
        file: what errors call it.
    """
    read_yaml(text.encode(), file, _file)


def _file(top: Field) -> None:
    if top.kind != "null":
        _mapping(_FILE)(top.private())


def _mapping(known: Mapping[str, Read], *required: str) -> Read:
    """Reads a mapping with these fields."""

    def read(field: Field) -> None:
        fields = field.fields(known)
        for name, read_one in known.items():
            (fields.required if name in required else fields.optional)(name, read_one, None)

    return read


def _string(field: Field) -> str:
    # Versions of YAML differ in what else they take for strings without quotes.
    if field.kind == "timestamp" or (field.kind == "int" and ":" in field.scalar):
        return field.scalar
    if field.kind == "bool" and field.scalar.lower() not in {"true", "false"}:
        return field.scalar
    return field.string()


def _number(field: Field) -> None:
    if field.kind != "int":
        field.reject("a whole number")


def _id(field: Field) -> None:
    if field.kind != "int":
        _string(field)


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
_MOUNTS = each(
    _mapping(
        {
            **_strings("destination", "type", "source"),
            **_lists("options"),
            "uidmappings": _ID_MAPPINGS,
            "gidmappings": _ID_MAPPINGS,
        }
    )
)
_RATES = each(_mapping(_numbers("major", "minor", "rate")))
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
        "mounts": _MOUNTS,
        "interfaces": each(_mapping({**_strings("name", "add", "peer"), **_flags("createInRoot")})),
        "bindNS": _mapping(_strings("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")),
    }
)
_IMAGES = each(
    _mapping(
        {
            **_strings("name", "image", "cwd", "net", "pid", "ipc", "uts", "userns", "hostname"),
            **_strings("rootfsPropagation", "cgroupsPath"),
            **_lists("capabilities", "capabilities.add", "ambient", "binds", "binds.add", "tmpfs"),
            **_lists("command", "env", "maskedPaths", "readonlyPaths", "rlimits"),
            **_flags("readonly", "noNewPrivileges"),
            **_numbers("oomScoreAdj"),
            "mounts": _MOUNTS,
            "devices": each(
                _mapping({**_strings("path", "type", "mode"), **_numbers("major", "minor")})
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
        },
        "name",
        "image",
    )
)
_FILE: dict[str, Read] = {
    "kernel": _mapping(_strings("image", "cmdline", "binary", "tar", "ucode")),
    "init": _STRINGS,
    "onboot": _IMAGES,
    "onshutdown": _IMAGES,
    "services": _IMAGES,
    "trust": _mapping(_lists("image", "org")),
    "files": each(
        _mapping(
            {
                **_strings("path", "symlink", "contents", "source", "metadata", "mode"),
                **_flags("directory", "optional"),
                "uid": _id,
                "gid": _id,
            }
        )
    ),
    "volumes": each(
        _mapping(
            {
                **_strings("name", "image"),
                **_flags("readonly"),
                **_lists("platforms"),
                "format": one_of(("oci", "filesystem")),
            }
        )
    ),
}

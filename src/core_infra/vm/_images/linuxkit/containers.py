"""The configuration of a container: ``config.json`` and ``runtime.json``.

Each key is the file's if it is given there, else that of the image's label
``org.mobyproject.config``, else the default. An empty list counts as given; an empty string does
not.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from core_infra._yaml.reading import read_yaml
from core_infra.errors import InvalidError
from core_infra.vm._images.linuxkit import notations
from core_infra.vm._images.linuxkit.document import volume_problem
from core_infra.vm._images.linuxkit.schema import read_label

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from core_infra.vm._guest.run_config import RunConfig

LABEL = "org.mobyproject.config"
VERSION = "1.0.2"
"""Of the runtime specification: the first that has all that is used, so every runtime takes it."""
CHANGES = "tmp"
"""The directory of a bundle for what a writable container changes."""
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
_RUNTIME_KEYS = ("cgroups", "mounts", "mkdir", "interfaces", "bindNS", "namespace")
_ALL = "all"


class Settings:
    """What a container's entry and its image's label say together.

    Args:
        entry: the entry of the LinuxKit file.
        label: what the image's label says.
    """

    def __init__(self, entry: Mapping[str, Any], label: Mapping[str, Any]) -> None:
        self._entry = entry
        self._label = label

    def get(self, name: str, default: Any) -> Any:
        """Return a value that counts as given even if it is empty."""
        return next(
            (one[name] for one in (self._entry, self._label) if one.get(name) is not None), default
        )

    def text(self, name: str, default: str = "") -> str:
        """Return a string that counts as given if it is not empty."""
        return str(self._entry.get(name) or self._label.get(name) or default)

    def joined(self, name: str) -> list[str]:
        """Return a list to which the file can add: ``binds``, with ``binds.add``."""
        if self._entry.get(name) is not None:
            return list(self._entry[name])
        return [*(self._label.get(name) or ()), *(self._entry.get(f"{name}.add") or ())]

    @property
    def readonly(self) -> bool:
        """Whether the container's root cannot be written to."""
        return bool(self.get("readonly", default=False))

    def runtime(self) -> dict[str, Any]:
        """Return what the init must prepare, each key the file's or the label's."""
        own, label = (one.get("runtime") or {} for one in (self._entry, self._label))
        return {
            name: own[name] if own.get(name) is not None else label.get(name)
            for name in _RUNTIME_KEYS
        }


def label_settings(image: str, labels: Mapping[str, str]) -> Mapping[str, Any]:
    """Return what an image's label says of its containers.

    Raises:
        InvalidFileError: it has mistakes, all of which are shown with the image's name.
    """
    text = labels.get(LABEL)
    return {} if not text else read_yaml(text.encode(), f"{LABEL} of {image}", read_label)


def container_config(
    settings: Settings, run: RunConfig, ids: Mapping[str, int], volumes: Mapping[str, bool]
) -> dict[str, Any]:
    """Return the content of ``config.json``.

    Args:
        settings: the file's entry and the label.
        run: the image's own configuration.
        ids: user and group IDs by the names of containers.
        volumes: the names of the volumes, and whether each is read-only.

    Raises:
        InvalidError: the label names something that is not there.
    """
    process = {
        "user": _user(settings, ids),
        "args": list(settings.get("command", (*run.entrypoint, *run.cmd))),
        "env": list(settings.get("env", [f"{name}={value}" for name, value in run.env.items()])),
        "cwd": settings.text("cwd", run.workdir or "/"),
        "capabilities": _capabilities(settings),
        "rlimits": [notations.rlimit(text) for text in settings.get("rlimits", ())],
        "noNewPrivileges": bool(settings.get("noNewPrivileges", default=False)),
    }
    if (score := settings.get("oomScoreAdj", None)) is not None:
        process["oomScoreAdj"] = score
    kept = {"user", "cwd", "oomScoreAdj"}
    root = {"path": "rootfs"} | ({"readonly": True} if settings.readonly else {})
    config = {
        "ociVersion": VERSION,
        "process": {name: value for name, value in process.items() if value or name in kept},
        "root": root,
        "hostname": settings.text("hostname"),
        "mounts": _mounts(settings, volumes),
        "annotations": settings.get("annotations", {}),
        "linux": _linux(settings),
    }
    _check_namespaces(config)
    return {name: value for name, value in config.items() if value}


def _check_namespaces(config: Mapping[str, Any]) -> None:
    """Refuse what a runtime refuses, since it would change the machine and not the container."""
    own = {one["type"] for one in config["linux"]["namespaces"]}
    needs = {"hostname": "uts"} if config["hostname"] else {}
    for name in config["linux"].get("sysctl", ()):
        with suppress(ValueError):  # a mistake of the file, which has its line
            needs[name] = notations.sysctl_namespace(name)
    for name, kind in needs.items():
        if kind not in own:
            field = {"network": "net", "user": "userns"}.get(kind, kind)
            raise InvalidError(
                f"{name} needs a namespace of the container's own",
                why=f"its {field} is the machine's",
                todo=f"Write {field}: new.",
            )


def runtime_config(settings: Settings, bundle: str, root: str) -> dict[str, Any]:
    """Return the content of ``runtime.json``.

    Args:
        settings: the file's entry and the label.
        bundle: the bundle's directory in the guest, absolute.
        root: the directory of the image's files in the guest, absolute.
    """
    given = settings.runtime()
    if settings.readonly:
        mounts = [{"destination": f"{bundle}/rootfs", "source": root, "options": ["bind"]}]
    else:
        changes = f"{bundle}/{CHANGES}"
        over = [f"lowerdir={root}", f"upperdir={changes}/upper", f"workdir={changes}/work"]
        mounts = [
            {"destination": changes, "type": "tmpfs", "source": "tmpfs"},
            {"destination": changes, "options": ["remount", "private"]},
            {
                "destination": f"{bundle}/rootfs",
                "type": "overlay",
                "source": "overlay",
                "options": over,
            },
        ]
    return {
        "cgroups": list(given["cgroups"] or ()),
        "mounts": [*mounts, *(_given(one) for one in given["mounts"] or ())],
        "mkdir": list(given["mkdir"] or ()),
        "interfaces": [dict(one) for one in given["interfaces"] or ()],
        "bindNS": {name: (given["bindNS"] or {}).get(name) or "" for name in _NAMESPACES},
        "namespace": given["namespace"] or "",
    }


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    names = {"uidmappings": "uidMappings", "gidmappings": "gidMappings"}
    return {names.get(name, name): value for name, value in fields.items() if value}


def number(value: object, ids: Mapping[str, int]) -> int:
    """Return the ID that a number, or the name of a container, stands for.

    Raises:
        InvalidError: no container has this name.
    """
    if isinstance(value, int):
        return value
    if value in {None, "", "root"}:
        return 0
    if str(value) not in ids:
        raise InvalidError(f"there is no user or group {value!r}", why="no container has this name")
    return ids[str(value)]


def _user(settings: Settings, ids: Mapping[str, int]) -> dict[str, Any]:
    found: dict[str, Any] = {name: number(settings.get(name, 0), ids) for name in ("uid", "gid")}
    more = [number(one, ids) for one in settings.get("additionalGids", ())]
    return found | ({"additionalGids": more} if more else {})


def _capabilities(settings: Settings) -> dict[str, list[str]]:
    effective = notations.capabilities(settings.joined("capabilities"))
    ambient = notations.capabilities(settings.get("ambient", ()))
    every = sorted({*effective, *ambient})
    found = {
        "bounding": every,
        "effective": list(dict.fromkeys(effective)),
        "inheritable": every,
        "permitted": every,
        "ambient": ambient,
    }
    return {name: value for name, value in found.items() if value}


def _mounts(settings: Settings, volumes: Mapping[str, bool]) -> list[dict[str, Any]]:
    own = ["ro"] if settings.readonly else []
    defaults = (
        ("/proc", "proc", "proc", ["nosuid", "nodev", "noexec", "relatime"]),
        ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k", *own]),
        (
            *("/dev/pts", "devpts", "devpts"),
            ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        ),
        ("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", *own]),
        ("/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", "ro"]),
    )
    mounts = [
        {"destination": destination, "type": kind, "source": source, "options": options}
        for destination, kind, source, options in defaults
    ]
    mounts += [notations.tmpfs(text) for text in settings.get("tmpfs", ())]
    mounts += _of_volumes([notations.bind(text) for text in settings.joined("binds")], volumes)
    mounts += _of_volumes([notations.mount(one) for one in settings.get("mounts", ())], volumes)
    last = {one["destination"]: one for one in mounts}
    return sorted(last.values(), key=lambda one: str(one["destination"]).encode())


def _of_volumes(
    mounts: Iterable[dict[str, Any]], volumes: Mapping[str, bool]
) -> list[dict[str, Any]]:
    """Replace the names of volumes by their places."""
    found = []
    for mount in mounts:
        own = mount
        if mount["type"] == "bind" and not str(mount["source"]).startswith("/"):
            if (problem := volume_problem(mount, volumes)) is not None:
                raise InvalidError("a bind of the image's label cannot be made", why=problem)
            own = mount | {"source": f"/containers/volumes/{mount['source']}/merged"}
        found.append(own)
    return found


def _linux(settings: Settings) -> dict[str, Any]:
    resources = _resources(settings.get("resources", {}))
    devices, rules = [], list(resources.get("devices", ()))
    for one in settings.get("devices", ()):
        rule = {"allow": True, "type": one["type"]}
        if one["path"] != _ALL:
            numbers = {name: one.get(name) or 0 for name in ("major", "minor")}
            device = {"path": one["path"], "type": one["type"], **numbers}
            if one.get("mode"):
                device["fileMode"] = notations.octal(one["mode"])
            devices.append(device)
            rule |= numbers
        rules.append(rule | {"access": "rwm"})
    if rules:
        resources["devices"] = rules
    found = {
        "uidMappings": _mappings(settings, "uidMappings"),
        "gidMappings": _mappings(settings, "gidMappings"),
        "sysctl": settings.get("sysctl", {}),
        "cgroupsPath": settings.text("cgroupsPath"),
        "namespaces": _namespaces(settings),
        "devices": devices,
        "rootfsPropagation": settings.text("rootfsPropagation"),
        "maskedPaths": list(settings.get("maskedPaths", ())),
        "readonlyPaths": list(settings.get("readonlyPaths", ())),
    }
    return {"resources": resources} | {name: value for name, value in found.items() if value}


def _mappings(settings: Settings, name: str) -> list[dict[str, int]]:
    return [dict(one) for one in settings.get(name, ())]


def _resources(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits under the names of the runtime specification."""
    found = {("blockIO" if name == "blockio" else name): _list(one) for name, one in given.items()}
    pages = found.get("hugepageLimits")
    if pages:
        found["hugepageLimits"] = [
            one | {"pageSize": _page(one["pageSize"])} if "pageSize" in one else one
            for one in pages
        ]
    return found


def _page(size: int) -> str:
    """Return the size of a page as the kernel's files name it: ``2MB``."""
    for unit, shift in (("GB", 30), ("MB", 20), ("KB", 10)):
        if size >= 1 << shift and size % (1 << shift) == 0:
            return f"{size >> shift}{unit}"
    return str(size)


def _list(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _list(one) for name, one in value.items()}
    return [_list(one) for one in value] if isinstance(value, tuple) else value


def _namespaces(settings: Settings) -> list[dict[str, str]]:
    names = (("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid"), ("user", "userns"))
    found = []
    for kind, name in names:
        word = settings.text(name, "new" if kind == "pid" else "host")
        if word in {"none", "new"}:
            found.append({"type": kind})
        elif word not in {"host", "root"}:
            found.append({"type": kind, "path": word})
    return [*found, {"type": "mount"}]

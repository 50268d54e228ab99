"""What becomes of an entry, an image's label and its own configuration."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_infra.errors import InvalidError, InvalidFileError
from core_infra.vm._guest.run_config import RunConfig
from core_infra.vm._images.linuxkit.containers import (
    LABEL,
    Settings,
    container_config,
    label_settings,
    runtime_config,
)
from core_infra.vm._images.linuxkit.notations import CAPABILITIES

RUN = RunConfig({"PATH": "/bin"}, "/srv", "", ("/entry",), ("cmd",))
IDS = {"web": 100, "db": 101}


def config(
    entry: dict[str, Any], label: dict[str, Any] | None = None, run: RunConfig = RUN
) -> dict[str, Any]:
    return container_config(Settings(entry, label or {}), run, IDS, {"data": False, "ro": True})


def test_what_docker_s_users_do_not_expect() -> None:
    found = config({})
    assert found == {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/entry", "cmd"],
            "env": ["PATH=/bin"],
            "cwd": "/srv",
        },
        "root": {"path": "rootfs"},
        "mounts": found["mounts"],
        "linux": {"resources": {}, "namespaces": [{"type": "pid"}, {"type": "mount"}]},
    }
    assert [one["destination"] for one in found["mounts"]] == [
        *("/dev", "/dev/pts", "/proc", "/sys", "/sys/fs/cgroup"),
    ]


EVERY = sorted(CAPABILITIES)
SYSCTL = {"fs.mqueue.msg_max": "5"}
MOUNT = {"destination": "/t", "type": "bind", "source": "/a"}
RESOURCES = {
    "memory": {"limit": -1, "disableOOMKiller": True},
    "cpu": {"shares": 2, "realtimeRuntime": -1, "cpus": "0-1"},
    "pids": {"limit": 3},
    "network": {"classID": 4, "priorities": [{"name": "eth0", "priority": 1}]},
}
FIELDS: list[tuple[dict[str, Any], dict[str, Any], str, Any]] = [
    ({"command": ["a"]}, {"command": ["b"]}, "process.args", ["a"]),
    ({}, {"command": ["b"]}, "process.args", ["b"]),
    ({"command": []}, {"command": ["b"]}, "process.args", None),
    ({"env": ["A=1"]}, {}, "process.env", ["A=1"]),
    ({"cwd": ""}, {"cwd": "/l"}, "process.cwd", "/l"),
    ({"uid": "web", "gid": 7}, {"uid": 3}, "process.user", {"uid": 100, "gid": 7}),
    ({"uid": 0}, {"uid": 3}, "process.user.uid", 0),
    ({"additionalGids": ["root", "db", 9]}, {}, "process.user.additionalGids", [0, 101, 9]),
    ({}, {"capabilities": ["CAP_KILL"]}, "process.capabilities.effective", ["CAP_KILL"]),
    ({"capabilities": []}, {"capabilities": ["all"]}, "process.capabilities", None),
    ({"capabilities": ["none"]}, {"capabilities": ["all"]}, "process.capabilities", None),
    ({"capabilities": ["ALL"]}, {}, "process.capabilities.permitted", EVERY),
    (
        {"capabilities.add": ["CAP_CHOWN", "CAP_KILL"]},
        {"capabilities": ["CAP_KILL"]},
        "process.capabilities.effective",
        ["CAP_KILL", "CAP_CHOWN"],
    ),
    (
        {"capabilities": ["CAP_KILL"], "capabilities.add": ["CAP_CHOWN"]},
        {},
        "process.capabilities.effective",
        ["CAP_KILL"],
    ),
    ({}, {"capabilities.add": ["CAP_KILL"]}, "process.capabilities", None),
    (
        {"capabilities": ["CAP_KILL"], "ambient": ["CAP_CHOWN"]},
        {},
        "process.capabilities",
        {
            "bounding": ["CAP_CHOWN", "CAP_KILL"],
            "effective": ["CAP_KILL"],
            "inheritable": ["CAP_CHOWN", "CAP_KILL"],
            "permitted": ["CAP_CHOWN", "CAP_KILL"],
            "ambient": ["CAP_CHOWN"],
        },
    ),
    (
        {"rlimits": ["nofile,1024,unlimited"]},
        {},
        "process.rlimits",
        [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 2**64 - 1}],
    ),
    ({"noNewPrivileges": True}, {}, "process.noNewPrivileges", True),
    ({"oomScoreAdj": 0}, {"oomScoreAdj": 5}, "process.oomScoreAdj", 0),
    ({"readonly": True}, {}, "root", {"path": "rootfs", "readonly": True}),
    ({"readonly": False}, {"readonly": True}, "root", {"path": "rootfs"}),
    ({"hostname": "h", "uts": "new"}, {}, "hostname", "h"),
    ({"sysctl": SYSCTL, "ipc": "new"}, {"sysctl": {"b": "2"}}, "linux.sysctl", SYSCTL),
    ({"annotations": {"a": "1"}}, {}, "annotations", {"a": "1"}),
    (
        {"devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "mode": "0666"}]},
        {},
        "linux.devices",
        [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}],
    ),
    (
        {"devices": [{"path": "all", "type": "b"}]},
        {},
        "linux.resources.devices",
        [{"allow": True, "type": "b", "access": "rwm"}],
    ),
    (
        {
            "net": "new",
            "ipc": "new",
            "uts": "/run/uts",
            "pid": "host",
            "userns": "new",
        },
        {},
        "linux.namespaces",
        [
            {"type": "network"},
            {"type": "ipc"},
            {"type": "uts", "path": "/run/uts"},
            {"type": "user"},
            {"type": "mount"},
        ],
    ),
    ({"net": "none"}, {}, "linux.namespaces.0", {"type": "network"}),
    ({"net": "host"}, {"net": "new"}, "linux.namespaces.0", {"type": "pid"}),
    ({"resources": {"blockio": {"weight": 5}}}, {}, "linux.resources.blockIO.weight", 5),
    (
        {"resources": {"hugepageLimits": ({"pageSize": 2 << 20, "limit": 4},)}},
        {},
        "linux.resources.hugepageLimits",
        [{"pageSize": "2MB", "limit": 4}],
    ),
    (
        {"resources": {"hugepageLimits": ({"limit": 4},)}},
        {},
        "linux.resources.hugepageLimits",
        [{"limit": 4}],
    ),
    ({"maskedPaths": ["/proc/x"]}, {}, "linux.maskedPaths", ["/proc/x"]),
    ({"cgroupsPath": "a"}, {"cgroupsPath": "b"}, "linux.cgroupsPath", "a"),
    ({"readonlyPaths": ["/proc/x"]}, {}, "linux.readonlyPaths", ["/proc/x"]),
    ({"readonlyPaths": []}, {"readonlyPaths": ["/x"]}, "linux.readonlyPaths", None),
    ({}, {"rootfsPropagation": "shared"}, "linux.rootfsPropagation", "shared"),
    (
        {"uidMappings": [{"hostID": 1, "containerID": 0, "size": 9}]},
        {},
        "linux.uidMappings",
        [{"hostID": 1, "containerID": 0, "size": 9}],
    ),
    ({}, {"gidMappings": [{"size": 9}]}, "linux.gidMappings", [{"size": 9}]),
    ({"tmpfs": ["/t"]}, {}, "mounts.5.destination", "/t"),
    ({"binds": ["/a:/t"]}, {"binds": ["/b:/t"]}, "mounts.5.source", "/a"),
    ({"binds.add": ["/a:/t"]}, {}, "mounts.5.source", "/a"),
    ({"mounts": [MOUNT]}, {}, "mounts.5", MOUNT),
    *(
        ({"resources": {name: RESOURCES[name]}}, {}, f"linux.resources.{name}", RESOURCES[name])
        for name in RESOURCES
    ),
    (
        {"resources": {"devices": ({"allow": False, "access": "rwm"},)}},
        {},
        "linux.resources.devices",
        [{"allow": False, "access": "rwm"}],
    ),
]
NOT_OF_CONFIG = {"runtime"}
"""Fields that are for the init; see test_each_field_of_runtime."""


def fields_of(text: str) -> set[str]:
    """The fields that a label may have where *text* has an unknown one."""
    with pytest.raises(InvalidFileError) as caught:
        label_settings("a", {LABEL: text})
    return set(caught.value.mistakes[0].expected.removeprefix("one of ").split(", "))


def test_each_field_has_a_row() -> None:
    assert fields_of("{x-: 1}") == {name for row in FIELDS for one in row[:2] for name in one} | (
        NOT_OF_CONFIG
    )
    rows = [row[0]["resources"] for row in FIELDS if "resources" in row[0]]
    assert fields_of("resources: {x-: 1}") == {name for one in rows for name in one}
    assert fields_of("runtime: {x-: 1}") == {name for row in RUNTIME for name in row[0]}


@pytest.mark.parametrize(("entry", "label", "path", "expected"), FIELDS)
def test_each_field(entry: dict[str, Any], label: dict[str, Any], path: str, expected: Any) -> None:
    found: Any = config(entry, label)
    for part in path.split("."):
        found = found[int(part)] if part.isdigit() else found.get(part)
        if found is None:
            break
    assert found == expected


LISTS = st.one_of(st.none(), st.lists(st.sampled_from(["/a", "/b", "/c"]), max_size=3))
KEYS = {
    "command": ("process", "args"),
    "env": ("process", "env"),
    "maskedPaths": ("linux", "maskedPaths"),
    "readonlyPaths": ("linux", "readonlyPaths"),
}


@given(st.sampled_from(sorted(KEYS)), LISTS, LISTS)
def test_the_file_wins_over_the_label_over_the_image(
    key: str, own: list[str] | None, label: list[str] | None
) -> None:
    entry, said = ({} if one is None else {key: one} for one in (own, label))
    section, name = KEYS[key]
    default = {"command": ["/entry", "cmd"], "env": ["PATH=/bin"]}.get(key)
    expected = own if own is not None else label if label is not None else default
    assert config(entry, said)[section].get(name) == (expected or None)


def mounts(entry: dict[str, Any], label: dict[str, Any] | None = None) -> dict[str, Any]:
    return {one.pop("destination"): one for one in config(entry, label)["mounts"]}


def test_mounts_replace_each_other_by_their_places() -> None:
    found = mounts(
        {
            "tmpfs": ["/t:size=1m,nodev", "/proc"],
            "binds": ["/a:/t", "/b:/b:ro,nosuid"],
            "mounts": [
                {"type": "cgroup", "options": ["rw"]},
                {"source": "mqueue"},
                {"destination": "/dev", "options": ["mode=700"]},
            ],
        }
    )
    assert found["/t"] == {"type": "bind", "source": "/a", "options": ["rw", "rbind", "rshared"]}
    assert found["/b"]["options"] == ["ro", "nosuid", "rbind"]
    assert found["/proc"] == {"type": "tmpfs", "source": "tmpfs"}
    assert found["/sys/fs/cgroup"] == {"type": "cgroup", "source": "cgroup", "options": ["rw"]}
    assert found["/dev/mqueue"] == {"type": "mqueue", "source": "mqueue"}
    assert found["/dev"] == {"type": "tmpfs", "source": "tmpfs", "options": ["mode=700"]}


def test_a_read_only_root_has_a_read_only_dev_and_sys() -> None:
    found = mounts({"readonly": True})
    assert [path for path in found if "ro" in found[path]["options"]] == [
        *("/dev", "/sys", "/sys/fs/cgroup"),
    ]


def test_binds_are_added_to_those_of_the_label_and_volumes_have_places() -> None:
    found = mounts({"binds.add": ["data:/d"]}, {"binds": ["/x:/y"]})
    assert found["/y"]["source"] == "/x"
    assert found["/d"]["source"] == "/containers/volumes/data/merged"
    with pytest.raises(InvalidError, match="no volume 'none'; there are data, ro"):
        config({}, {"binds": ["none:/d"]})
    with pytest.raises(InvalidError, match="'ro' is read-only"):
        config({}, {"binds": ["ro:/d"]})
    assert mounts({}, {"binds": ["ro:/d:ro"]})["/d"]["options"] == ["ro", "rbind"]


def test_a_label_names_only_containers_that_there_are() -> None:
    with pytest.raises(InvalidError, match="no user or group 'nobody'"):
        config({}, {"uid": "nobody"})


def test_a_label_has_all_its_mistakes_and_the_image_s_name() -> None:
    label = json.dumps({"capabilities": ["CAP_X"], "binds": ["a"], "name": "x", "readonly": 1})
    with pytest.raises(InvalidFileError) as caught:
        label_settings("nginx:1", {LABEL: label})
    assert caught.value.path == f"{LABEL} of nginx:1"
    assert [one.field for one in caught.value.mistakes] == [
        *("capabilities[0]", "binds[0]", "name", "readonly"),
    ]
    assert label_settings("nginx:1", {}) == {}


RUNTIME: list[tuple[dict[str, Any], dict[str, Any], Any]] = [
    ({"cgroups": ["a"]}, {"cgroups": ["b"]}, ["a"]),
    ({"mkdir": []}, {"mkdir": ["/b"]}, []),
    (
        {"mounts": ({"source": "/a", "destination": "b", "options": ("bind",), "type": ""},)},
        {},
        [{"source": "/a", "destination": "b", "options": ("bind",)}],
    ),
    ({"interfaces": [{"name": "eth1", "add": "dummy"}]}, {}, [{"name": "eth1", "add": "dummy"}]),
    ({"bindNS": {"pid": "/run/p"}}, {"bindNS": {"net": "/run/n"}}, {"pid": "/run/p"}),
    ({"namespace": "n"}, {"namespace": "m"}, "n"),
]


@pytest.mark.parametrize(("own", "label", "expected"), RUNTIME)
def test_each_field_of_runtime(own: dict[str, Any], label: dict[str, Any], expected: Any) -> None:
    (name,) = own
    settings = Settings({"runtime": own, "readonly": True}, {"runtime": label})
    found = runtime_config(settings, "/p", "/q")[name]
    if name == "mounts":
        found = found[1:]  # without that of the root
    if name == "bindNS":
        found = {key: value for key, value in found.items() if value}
    assert found == expected
    if name != "mounts":
        other = runtime_config(Settings({"readonly": True}, {"runtime": own}), "/p", "/q")
        assert other[name] == runtime_config(settings, "/p", "/q")[name] or label


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"hostname": "h"}, r"hostname needs a namespace .* its uts is the machine's\n.*uts: new"),
        ({"sysctl": {"net.ipv4.ip_forward": "1"}, "net": "host"}, r"(?s)net.ipv4.*Write net: new"),
        ({"sysctl": SYSCTL}, r"(?s)fs\.mqueue\.msg_max needs .*Write ipc: new"),
    ],
)
def test_what_a_runtime_refuses_is_refused_when_the_image_is_built(
    entry: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidError, match=message):
        config(entry)
    with pytest.raises(InvalidError, match=message):
        config({}, entry)


def test_what_the_init_prepares() -> None:
    entry = {"runtime": {"mkdir": ["/a"], "mounts": [{"type": "tmpfs", "destination": "x"}]}}
    label = {"runtime": {"mkdir": ["/b"], "cgroups": ["c"], "bindNS": {"net": "/run/n"}}}
    found = runtime_config(Settings(entry, label), "/containers/onboot/000-a", "/lower")
    place = "/containers/onboot/000-a"
    assert found["mounts"] == [
        {"destination": f"{place}/tmp", "type": "tmpfs", "source": "tmpfs"},
        {"destination": f"{place}/tmp", "options": ["remount", "private"]},
        {
            "destination": f"{place}/rootfs",
            "type": "overlay",
            "source": "overlay",
            "options": [
                "lowerdir=/lower",
                f"upperdir={place}/tmp/upper",
                f"workdir={place}/tmp/work",
            ],
        },
        {"type": "tmpfs", "destination": "x"},
    ]
    assert (found["mkdir"], found["cgroups"], found["namespace"]) == (["/a"], ["c"], "")
    assert found["bindNS"] == dict.fromkeys(("cgroup", "ipc", "mnt", "pid", "user", "uts"), "") | {
        "net": "/run/n"
    }
    bound = runtime_config(Settings({"readonly": True}, {}), "/p", "/q")["mounts"]
    assert bound == [{"destination": "/p/rootfs", "source": "/q", "options": ["bind"]}]

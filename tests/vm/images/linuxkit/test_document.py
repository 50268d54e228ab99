"""LinuxKit files: their mistakes, and several that are merged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core_infra.errors import InvalidFileError
from core_infra.vm._images.linuxkit.detect import is_linuxkit
from core_infra.vm._images.linuxkit.document import LinuxKitFile, read_linuxkit

if TYPE_CHECKING:
    from pathlib import Path


def read(*texts: str) -> LinuxKitFile:
    return read_linuxkit([(f"{number}.yml", text.encode()) for number, text in enumerate(texts)])


def mistakes(*texts: str) -> list[str]:
    with pytest.raises(InvalidFileError) as caught:
        read(*texts)
    return [str(one) for one in caught.value.mistakes]


@pytest.mark.parametrize(
    "kind", ["symlink: ''", "source: ''", "metadata: ''", "directory: false", "contents: null"]
)
def test_a_file_of_an_empty_kind_has_no_kind(kind: str) -> None:
    found = mistakes(f"kernel: {{image: a}}\nfiles:\n- {{path: a, {kind}}}\n")
    assert all(one.startswith("0.yml:3:") for one in found)
    assert "a file needs one of" in found[0]


def test_all_mistakes_at_once_each_with_its_line() -> None:
    found = mistakes(
        "kernel: {image: UPPER}\n"
        "init: ['@pkg:./here']\n"
        "volumes:\n"
        "- {name: V}\n"
        "- {name: o, platforms: [linux/s390x]}\n"
        "- {name: r, readonly: true}\n"
        "services:\n"
        "- name: .x\n"
        "  image: a\n"
        "- name: s\n"
        "  image: a\n"
        "  capabilities: [CAP_NONE, kill]\n"
        "  rlimits: ['nofile,1']\n"
        "  binds: ['a', 'v:/v', 'r:/r']\n"
        "  net: relative\n"
        "  mounts: [{source: x}]\n"
        "  uid: nobody\n"
        "  devices: [{path: /dev/x, type: q}, {path: all, type: a}]\n"
        "- {name: s, image: b}\n"
        "files:\n"
        "- {path: ../x, contents: a}\n"
        "- {path: a, contents: a, source: b}\n"
        "- {path: a}\n"
        "- {path: a, contents: a, mode: '9'}\n"
        "- {path: a, contents: a, mode: 0644}\n"
    )
    lines = [int(one.split(":")[1]) for one in found]
    assert lines == [*(1, 2, 4, 5, 8, 12, 12, 13, 14, 14, 14, 15, 16, 17, 18, 19), *range(21, 26)]
    text = "\n".join(found)
    for part in (
        "must be lower-case",
        "@pkg:",
        "did you mean 'CAP_KILL'?",
        "there is no volume 'v'",
        "the volume 'r' is read-only",
        "no container has the name 'nobody'",
        "devices[0].type: expected one of c, b, u, p, a",
        "another service has the same name 's'",
        "a file has either contents or source",
        "put it in quotes",
    ):
        assert part in text


def test_a_volume_without_a_valid_name_is_not_offered() -> None:
    found = mistakes(
        "volumes: [{name: V}]\nonboot: [{name: s, image: a, binds: ['x:/x']}]\n",
    )
    assert found[-1].endswith("there is no volume 'x'; there are none. A path begins with /")


def test_values_are_not_shown() -> None:
    (text,) = mistakes("files:\n- {path: a, contents: a, mode: [secret]}\n")
    assert "secret" not in text


def test_files_are_merged_from_the_first_to_the_last() -> None:
    found = read(
        "kernel: {image: 'a:1', cmdline: quiet}\ninit: [x]\n"
        "volumes: [{name: v}]\nservices: [{name: s, image: s, binds: ['v:/v']}]\n",
        "kernel: {image: 'b:1', cmdline: ''}\ninit: [y]\nonboot: [{name: o, image: o}]\n",
    )
    assert found.kernel == {"image": "docker.io/library/b:1", "cmdline": "quiet"}
    assert found.init == ["docker.io/library/x:latest", "docker.io/library/y:latest"]
    assert found.ids == {"o": 100, "s": 101}
    assert [one.rpartition("/")[2] for one in found.images()] == [
        *("b:1", "x:latest", "y:latest", "o:latest", "s:latest"),
    ]
    assert found.metadata()["services"] == [
        {"name": "s", "image": "docker.io/library/s:latest", "binds": ["v:/v"]}
    ]
    same = "services: [{name: s, image: s}]\n"
    assert mistakes(same, same) == [
        "1.yml:1: services[0].name: another service has the same name 's'"
    ]


def test_nothing_is_a_file_too() -> None:
    assert read("") == LinuxKitFile()
    assert read("trust: {image: [a]}\n").images() == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("services:\n- name: a\n", True),
        ("# x\nkernel:\n  image: a\n", True),
        ("kernel: {image: a}\n", True),
        ("kernel: vmlinuz\ninitrd: x\n", False),
        ("disk: a.raw\nmemory: 1\n", False),
        ("cmdline: |\n  services: x\n", False),
        ("", False),
    ],
)
def test_it_is_told_from_a_description_of_an_image(
    tmp_path: Path, text: str, expected: object
) -> None:
    file = tmp_path / "a.yml"
    file.write_text(text)
    assert is_linuxkit(file) is expected
    assert not is_linuxkit(file.rename(tmp_path / "a.txt"))


COMMENTED = """\
files:
- path: a
  contents: |
{text}
- {{path: b, contents: b}}
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#     one\n    two\n# c\n    three", "two\nthree\n"),
        ("    one\n# c\n\n  # d\n    two", "one\n\ntwo\n"),
        ("    one\n    # two", "one\n# two\n"),
        ("    one\n# c", "one\n"),
    ],
)
def test_a_line_that_is_commented_out_is_not_of_the_text(text: str, expected: str) -> None:
    # As in LinuxKit's examples/static-ip.yml, which LinuxKit's own reader refuses.
    found = read(COMMENTED.format(text=text))
    assert [one["contents"] for one in found.files] == [expected, "b"]


def test_the_first_line_of_a_program_is_no_comment() -> None:
    (found,) = mistakes(COMMENTED.format(text="#!/bin/sh\n    echo"))
    assert found.startswith("0.yml:5: invalid YAML")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cmdline: 1:30.5", "1:30.5"),
        ("cmdline: 12:30", "12:30"),
        ("cmdline: 2001-01-01", "2001-01-01"),
        ("cmdline: no", "no"),
        ("cmdline: a\tb \t# c", "a\tb"),
        ("cmdline:\ta", "a"),
        ("cmdline: [a,\tb]", None),
        ("cmdline: true", None),
        ("cmdline: 0x10", None),
    ],
)
def test_strings_without_quotes_are_those_of_linuxkit(text: str, expected: str | None) -> None:
    file = f"kernel:\n  image: a\n  {text}\n"
    if expected is None:
        assert mistakes(file)[0].startswith("0.yml:3: kernel.cmdline: expected a string")
    else:
        assert read(file).kernel["cmdline"] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("0o10", 8), ("010", 8), ("1e3", 1000), ("0x1F", 31), ("1_000", 1000), ("'5'", "5")),
        *(("1:30", None), ("-1", None), ("4294967296", None), ("1.5", None)),
    ],
)
def test_numbers_are_those_of_linuxkit(text: str, expected: object) -> None:
    file = f"services:\n- {{name: '5', image: a}}\n- {{name: a, image: a, uid: {text}}}\n"
    if expected is None:
        assert mistakes(file)[0].startswith("0.yml:3: services[1].uid: ")
    else:
        assert read(file).containers["services"][1]["uid"] == expected


def test_an_empty_string_counts_as_not_given() -> None:
    found = read(
        "kernel: {image: '', cmdline: ''}\n"
        "volumes: [{name: v, image: '', format: oci}]\n"
        "files: [{path: a, contents: '', mode: '', metadata: '', source: '', symlink: ''}]\n"
    )
    assert (found.kernel, found.images()) == ({}, [])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("rlimits: ['nofile,20,10']", "rlimits[0]: the soft limit 20 is above the hard one"),
        ("rlimits: ['nofiles,1,2']", "rlimits[0]: there is no limit 'NOFILES'"),
        ("tmpfs: ['/t:siz=1m']", "tmpfs[0]: tmpfs has no option 'siz'; it has size"),
        ("tmpfs: ['/t:size=1x']", "tmpfs[0]: the option size of tmpfs cannot be '1x'"),
        ("mounts: [{type: proc, options: [hidepi=2]}]", "mounts[0]: proc has no option 'hidepi'"),
        ("mounts: [{type: sysfs, options: [x]}]", "mounts[0]: sysfs has no option 'x'; it has non"),
        ("sysctl: {vm.swappiness: '1'}", "sysctl.vm.swappiness: it cannot be set in a container"),
        ("sysctl: {kernel.hostname: a}", "sysctl.kernel.hostname: it cannot be set in a container"),
        ("rootfsPropagation: bad", "rootfsPropagation: expected one of shared, slave"),
        ("oomScoreAdj: 1001", "oomScoreAdj: expected a number from -1000 to 1000"),
        ("devices: [{path: /dev/x, type: a}]", "devices[0].type: only the path all has the type a"),
        ("resources: {cpu: {cpus: 0-}}", "resources.cpu.cpus: a list of processors"),
        ("resources: {cpu: {shares: -1}}", "resources.cpu.shares: expected a number from 0"),
        ("resources: {blockio: {weight: 70000}}", "resources.blockio.weight: expected a number"),
        ("resources: {devices: [{access: x}]}", "resources.devices[0].access: the access has"),
        ("resources: {devices: [{type: q}]}", "resources.devices[0].type: expected one of a, b, c"),
        (
            "runtime: {interfaces: [{add: veth}]}",
            "runtime.interfaces[0]: the interface needs a nam",
        ),
        (
            "runtime: {interfaces: [{name: a, add: veth}]}",
            "an interface of the kind",
        ),
        ("net: bridge", "net: a namespace is an absolute path"),
        ("capabilities: [CAP_NOTHING]", "capabilities[0]: there is no capability 'CAP_NOTHING'"),
    ],
)
def test_what_can_only_fail_in_the_machine_is_refused_with_its_line(
    entry: str, message: str
) -> None:
    (found,) = mistakes(f"services:\n- name: a\n  image: a\n  {entry}\n")
    assert found.startswith("0.yml:4: services[0].")
    assert message in found


@pytest.mark.parametrize(
    "entry",
    [
        "tmpfs: ['/t:size=50%,mode=1777,nosuid,noswap', '/u:', '/v:rw,huge=within_size']",
        "mounts: [{type: bind, source: /a, destination: /b, options: [rbind, ro, z]}]",
        "mounts: [{type: devpts, options: [newinstance, 'gid=5', rnoexec]}]",
        "mounts: [{type: nfs, source: 'a:/b', destination: /b, options: [vers=4]}]",
        "sysctl: {net.ipv4.ip_forward: '1', net/ipv4/conf/eth0.1/rp_filter: '0', kernel.sem: '1'}",
        "devices: [{path: all, type: a}]",
        "rootfsPropagation: ''",
        "resources: {cpu: {cpus: '0-3,5', mems: ''}, memory: {limit: -1, swap: -1}}",
        "runtime: {interfaces: [{name: eth1, add: veth, peer: veth0}, {name: eth2}]}",
    ],
)
def test_what_works_in_a_machine_is_accepted(entry: str) -> None:
    read(f"services:\n- name: a\n  image: a\n  {entry}\n")

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
        "- {name: o, format: oci}\n"
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

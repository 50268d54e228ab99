"""Wrong values for the public methods of machines and launchers get one clear error each."""

from __future__ import annotations

import asyncio
import math
import os
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.errors import CoreInfraError, InvalidError, NotFoundError
from core_infra.vm import GuestOperationError, Launcher, Machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NO_TIMES = [math.nan, -1, -math.inf, "1", b"1", True, [], object()]
NO_PATHS = [None, 5, b"/x", "relative", "", "/a\0b", "/\ud800", [], ["/x"]]
NO_TEXTS = [5, b"x", [], "a\0b", "\ud800", object()]
NO_COMMANDS: list[Any] = [
    None,
    5,
    b"true",
    [b"true"],
    [],
    ["a\0b"],
    "a\0b",
    "\ud800",
    {"a": 1},
    [None],
    [[]],
]
NO_NUMBERS: list[Any] = [None, -1, "1", 1.5, True, math.nan, [], 10**400]
LONGEST = 10_000


def refused(what: str, call: Callable[[Any], object], values: list[Any]) -> list[str]:
    """What happens with each value, unless it is one error of the library, and a short one."""
    found = []
    for value in values:
        try:
            call(value)
        except CoreInfraError as error:
            if len(str(error)) > LONGEST:
                found.append(f"{what}: {len(str(error))} characters")
        except Exception as error:  # noqa: BLE001 - what this looks for
            found.append(f"{what} with {value!r:.50}: {type(error).__name__}: {error}")
        else:
            found.append(f"{what} with {value!r:.50}: nothing")
    return found


def test_a_machine_refuses_wrong_values(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    here, there = str(tmp_path / "file"), "/root/there"
    calls: list[tuple[str, Callable[[Any], object], list[Any]]] = [
        ("exec", machine.exec, NO_COMMANDS),
        ("stream", machine.stream, NO_COMMANDS),
        ("wait_until_succeeds", lambda v: machine.wait_until_succeeds(v, timeout=0), NO_COMMANDS),
        ("exec timeout", lambda v: machine.exec("true", timeout=v), NO_TIMES),
        ("stream timeout", lambda v: machine.stream("true", timeout=v), NO_TIMES),
        ("wait timeout", lambda v: machine.stream("true").wait(v), NO_TIMES),
        ("push timeout", lambda v: machine.push(here, there, timeout=v), NO_TIMES),
        ("pull timeout", lambda v: machine.pull("/etc/passwd", here, timeout=v), NO_TIMES),
        ("until timeout", lambda v: machine.wait_until_succeeds("true", timeout=v), NO_TIMES),
        ("file timeout", lambda v: machine.wait_for_file("/etc", timeout=v), NO_TIMES),
        ("port timeout", lambda v: machine.wait_for_port(1, timeout=v), NO_TIMES),
        ("logs timeout", lambda v: list(machine.logs(follow=True, timeout=v)), NO_TIMES),
        ("reset timeout", lambda v: machine.reset(timeout=v), NO_TIMES),
        ("reboot timeout", lambda v: machine.reboot(timeout=v), NO_TIMES),
        ("power_off timeout", lambda v: machine.power_off(timeout=v), NO_TIMES),
        ("power_cut timeout", lambda v: machine.power_cut(until="x", timeout=v), NO_TIMES),
        ("power_cut", lambda v: machine.power_cut(until=v, timeout=0), [5, b"x", re.compile(b"x")]),
        ("user", lambda v: machine.exec("true", user=v), NO_TEXTS),
        ("cwd", lambda v: machine.exec("true", cwd=v), NO_TEXTS),
        ("env", lambda v: machine.exec("true", env=v), [5, "A=1", ["A"], {"A": 1}, {1: "A"}]),
        ("env name", lambda v: machine.exec("true", env={v: ""}), ["", "A=B", "a\0b", "\ud800"]),
        ("input", lambda v: machine.exec("true", input=v), [5, [], "\ud800", object()]),
        ("signal", lambda v: machine.stream("sleep 9").signal(v), [0, 65, *NO_NUMBERS]),
        ("read_bytes", machine.read_bytes, NO_PATHS),
        ("read_text", machine.read_text, NO_PATHS),
        ("write_text", lambda v: machine.write_text(v, "x"), NO_PATHS),
        ("written text", lambda v: machine.write_text(there, v), [None, 5, b"x", "\ud800"]),
        ("written bytes", lambda v: machine.write_bytes(there, v), [None, 5, "x", []]),
        ("push to", lambda v: machine.push(here, v), NO_PATHS),
        ("push from", lambda v: machine.push(v, there), NO_PATHS),
        ("pull from", lambda v: machine.pull(v, here), NO_PATHS),
        ("pull to", lambda v: machine.pull("/etc/passwd", v), [None, 5, b"/x", "", "/a\0b", []]),
        ("wait_for_file", lambda v: machine.wait_for_file(v, timeout=0), NO_PATHS),
        ("wait_for_port", lambda v: machine.wait_for_port(v, timeout=0), [0, *NO_NUMBERS]),
        ("port", machine.port, [0, 65536, *NO_NUMBERS]),
        ("console_tail", machine.console_tail, [0, *NO_NUMBERS[:-1]]),
        ("disk", machine.disk, [None, 5, "", "sda", "vd", []]),
        ("snapshot", machine.snapshot, [None, 5, "", b"x", []]),
        ("revert", machine.revert, [5, "", b"x", "never", []]),
        ("jump", machine.clock.jump, [None, "1", True, math.nan, [], 10**400]),
        ("skew", machine.clock.skew, [None, "1", True, math.nan, [], 2]),
        ("advance", lambda v: machine.clock.advance(days=v), [None, "1", math.nan, [], 10**400]),
        ("pressure", lambda v: machine.memory.pressure(free=v), NO_NUMBERS),
        ("stuck", machine.cpu.stuck, NO_NUMBERS),
        ("ssh", machine.ssh, NO_TEXTS),
        ("ssh port", lambda v: machine.ssh(port=v), NO_NUMBERS),
    ]
    found = [line for what, call, values in calls for line in refused(what, call, values)]
    assert found == []
    assert machine.exec("echo as before").stdout == "as before\n"


def test_an_asynchronous_machine_refuses_wrong_values(machine: Machine) -> None:
    def call(value: object) -> object:
        return asyncio.run(machine.aio.exec(value))  # type: ignore[arg-type] # wrong on purpose

    def limited(value: object) -> object:
        return asyncio.run(machine.aio.exec("true", timeout=value))  # type: ignore[arg-type] # the same

    found = refused("exec", call, NO_COMMANDS) + refused("exec timeout", limited, NO_TIMES)
    assert found == []


def test_a_launcher_refuses_wrong_values(launcher: Launcher, tmp_path: Path) -> None:
    clone: Callable[..., Machine] = launcher.clone
    wrong: dict[str, list[Any]] = {
        "image": [5, b"x", [], "", "a\0b", "\ud800"],
        "name": [5, b"x", "", "a/b", "..", "a\0b", "x" * 1000, "\ud800", []],
        "timeout": NO_TIMES,
        "networks": [5, "net", [5], ["net"], [None]],
        "memory": [-1, 0, "256", 1.5, True, math.nan, [], 10**400],
        "cpus": [-1, 0, "1", 1.5, True, math.nan, [], 10**400],
        "cpu": [5, "", "a b", b"max", []],
        "disks": [5, "2G", [5], [None], ["0G"], ["a\0b"], [[]], [str(tmp_path)], [b"1G"]],
        "arch": [5, "", "vax", b"x86_64", []],
        "kernel": [5, "", "/nowhere", str(tmp_path), b"/x", [], "/a\0b"],
        "initrd": [5, "", "/nowhere", str(tmp_path), b"/x", [], "/a\0b"],
        "cmdline": [5, b"x", "a\nb", []],
        "init": [5, "", "x", []],
        "network": [5, "", "lan", []],
        "time": [5, "slow", b"real"],
        "packages": [5, "nginx", [5], [None], [""]],
        "suite": [5, b"trixie", []],
        "colour": ["red"],
    }
    found = [
        line
        for name, values in wrong.items()
        for line in refused(name, lambda v, name=name: clone(**{name: v}), values)  # type: ignore[misc] # a default
        if "TypeError: there is no argument 'colour'" not in line
    ]
    found += refused("prepare", launcher.prepare, [None, 5, "x"])
    found += refused("cache", lambda v: launcher.prepare(print, cache=v), [5, b"x", []])
    found += refused("prepare_cluster", launcher.prepare_cluster, [None, 5, "x"])
    found += refused("discard", launcher.discard, [None, 5, "vm1"])
    found += refused("keep", launcher.keep, [None, 5, "vm1"])
    found += refused("subnet", launcher.network, [5, "x", "10.0.0.0/99", b"10.0.0.0/8", []])
    found += refused("make_image", launcher.make_image, [5, b"x", []])
    assert found == []
    assert launcher.leaks() == []


def test_large_arguments_are_refused_in_a_few_words(machine: Machine) -> None:
    with pytest.raises(GuestOperationError, match="Argument list too long"):
        machine.exec(["true", "x" * 3_000_000])
    with pytest.raises(InvalidError, match="one frame carries at most"):
        machine.exec(["true", "x" * 5_000_000])
    assert machine.exec(["echo", "x" * 100_000]).stdout == "x" * 100_000 + "\n"


def test_what_has_no_end_is_not_kept(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("command", "file_transfer"):
        monkeypatch.setattr(f"core_infra.vm._guest.{module}.MOST_OUTPUT", 4 << 20)
    with pytest.raises(InvalidError, match="more than 4 MiB, or no end"):
        machine.read_bytes("/dev/zero")
    with pytest.raises(GuestOperationError, match="wrote more than 4 MiB, and was killed"):
        machine.exec("exec cat /dev/zero")
    with pytest.raises(GuestOperationError, match="wrote more than 4 MiB, and was killed"):
        asyncio.run(machine.aio.exec("exec cat /dev/zero"))
    machine.wait_until_succeeds("! pidof cat")


def test_a_tree_is_not_sent_to_a_command_that_has_failed(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    with (tmp_path / "large" / "sparse").open("wb") as file:
        os.truncate(file.fileno(), 1 << 40)  # days, if it were sent
    with pytest.raises(CoreInfraError, match="not a directory"):
        machine.push(tmp_path / "large", "/etc/passwd", timeout=time.monotonic())


def test_files_that_are_no_text_are_read_as_bytes(machine: Machine) -> None:
    machine.write_bytes("/root/no-text", b"\xff")
    with pytest.raises(InvalidError, match="as text"):
        machine.read_text("/root/no-text")
    with pytest.raises((NotFoundError, GuestOperationError)):
        machine.read_text("/root/nothing")

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import InvalidError, TimeoutExpiredError
from core_infra.vm import GuestCommandError, GuestCommandTimeoutError, GuestOperationError

if TYPE_CHECKING:
    from core_infra.vm import Machine


def test_commands_run_side_by_side_without_a_thread_each(machine: Machine) -> None:
    # None of them ends before all of them run.
    line = (
        "echo $$ >> /tmp/aio; until [ $(wc -l < /tmp/aio) = 8 ]; do sleep 0.05; done; "
        "cat; echo to stderr >&2; exit 3"
    )

    async def run() -> None:
        before = threading.active_count()
        tasks = [asyncio.create_task(machine.aio.exec(line, input=f"{n}")) for n in range(8)]
        await machine.aio.wait_until_succeeds("test -e /tmp/aio")
        assert threading.active_count() == before
        results = await asyncio.gather(*tasks)
        assert [result.stdout for result in results] == [str(n) for n in range(8)]
        assert {(result.exit_code, result.stderr) for result in results} == {(3, "to stderr\n")}

    machine.exec("rm -f /tmp/aio")
    asyncio.run(run())
    assert {str(n) for n in range(8)} <= {result.stdout for result in machine.history}


def test_much_goes_in_and_comes_out(machine: Machine) -> None:
    data = bytes(range(256)) * 8192
    result = asyncio.run(machine.aio.exec("cat", input=data))
    assert result.stdout_bytes == data


def test_errors_are_those_of_the_machine(machine: Machine) -> None:
    async def run() -> None:
        with pytest.raises(GuestCommandError, match="exit code 2"):
            await machine.aio.exec("exit 2", check=True)
        with pytest.raises(GuestOperationError):
            await machine.aio.exec(["no-such-program"])
        with pytest.raises(InvalidError):
            await machine.aio.exec([])
        with pytest.raises(GuestCommandTimeoutError) as caught:
            await machine.aio.exec("echo early; sleep 1000", timeout=0.5)
        assert caught.value.stdout == b"early\n"
        with pytest.raises(TimeoutExpiredError, match="'/no/such' to appear"):
            await machine.aio.wait_for_file("/no/such", timeout=0.1)
        with pytest.raises(TimeoutExpiredError, match="port 9 to be listened on"):
            await machine.aio.wait_for_port(9, timeout=0.1)
        with pytest.raises(InvalidError, match="async with"):
            machine.aio.stream("true").kill()

    asyncio.run(run())


def test_a_cancelled_call_ends_its_command(machine: Machine) -> None:
    async def run() -> None:
        task = asyncio.create_task(machine.aio.exec("touch /tmp/begun; sleep 987654"))
        await machine.aio.wait_for_file("/tmp/begun")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await machine.aio.wait_until_succeeds("! pgrep -f 'sleep 98765[4]'")

    asyncio.run(run())


def test_a_stream_is_followed_fed_and_ended(machine: Machine) -> None:
    async def run() -> None:
        async with machine.aio.stream("echo first; cat; echo last >&2; sleep 1000") as process:
            lines = aiter(process)
            assert await anext(lines) == "first"
            await process.send_input("second\n")
            process.close_stdin()
            assert await anext(lines) == "second"
            assert (await anext(lines)).stream == "stderr"
            await lines.aclose()
            process.kill()
            assert await process.wait() == -9
        async with machine.aio.stream("sleep 987653"):
            pass
        await machine.aio.wait_until_succeeds("! pgrep -f 'sleep 98765[3]'")

    asyncio.run(run())


def test_files_are_copied(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> None:
    here = tmp_path_factory.mktemp("aio")
    (here / "a").write_text("text")

    async def run() -> None:
        await machine.aio.push(here / "a", "/tmp/pushed")
        await machine.aio.pull("/tmp/pushed", here / "b")

    asyncio.run(run())
    assert (here / "b").read_text() == "text"

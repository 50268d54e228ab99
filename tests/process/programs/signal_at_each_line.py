"""Run code again and again, with a signal handler called at each line of core_infra in turn.

Arguments: the handler, and the code.
"""

from __future__ import annotations

import itertools
import linecache
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import core_infra
from core_infra.errors import WrongStateError
from core_infra.process import Service
from core_infra.process._managed_process import ManagedProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

PACKAGE = str(Path(core_infra.__file__).parent)
hit = False


def interrupt_at(number: int, handler: Callable[[], object]) -> None:
    lines = itertools.count(1)

    def trace(frame: FrameType, event: str, _: object) -> Any:
        global hit  # noqa: PLW0603 - looked at by the loop
        file = frame.f_code.co_filename
        line = linecache.getline(file, frame.f_lineno).split()
        # Python lets no signal in between the end of a block and what its "with" does then, nor
        # before a "try" that nothing is called before.
        ours = event == "line" and file.startswith(PACKAGE) and line[0] not in {"with", "try:"}
        if ours and next(lines) == number:
            sys.settrace(None)
            hit = True
            handler()
        return trace

    sys.settrace(trace)


def interrupt() -> None:
    raise KeyboardInterrupt


def kill_all(service: Service) -> None:
    for process in service.running():
        process.kill()


def start_and_kill(service: Service) -> None:
    service.start("sleep", "600").kill()


def send_and_read(service: Service) -> None:
    process = service.start("cat")
    process.send_input("x")
    process.read()
    process.kill()


def wait_and_look(service: Service) -> None:
    process = service.start("seq", "9")
    process.wait()
    process.output()
    process.info()


def start_and_shut_down(service: Service) -> None:
    service.start("cat")
    service.shutdown()


def signal_and_kill(service: Service) -> None:
    process = service.start("cat")
    process.signal(18)
    process.leftovers()
    process.kill()


def run(service: Service) -> None:
    service.run("true")


HANDLERS: dict[str, Callable[[Service], None]] = {
    "shutdown": Service.shutdown,
    "run": run,
    "kill_all": kill_all,
    "interrupt": lambda _service: interrupt(),
}
handle = HANDLERS[sys.argv[1]]
code = globals()[sys.argv[2]] if sys.argv[2] != "shut_down" else Service.shutdown
others: list[object] = []
for number in itertools.count(1):
    hit, service = False, Service()
    if code is Service.shutdown:
        service.start("cat")
    try:
        interrupt_at(number, lambda: handle(service))  # noqa: B023 - called before the next
        code(service)
    except (WrongStateError, KeyboardInterrupt):
        pass
    except Exception as error:  # noqa: BLE001 - the result
        others.append((number, error))
    finally:
        sys.settrace(None)
    for process in service.list():
        if process.is_running():  # an interrupted call did not wait
            assert isinstance(process, ManagedProcess)
            process.await_stopped()
    if service.running() or service.leftovers():
        others.append((number, service.running(), service.leftovers()))
    service.shutdown()
    if not hit:
        break
print(number > 50, others)

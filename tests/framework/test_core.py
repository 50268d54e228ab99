"""Services: made, started, found and shut down."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.errors import (
    AlreadyExistsError,
    CoreInfraError,
    InvalidError,
    NotFoundError,
    WrongStateError,
)
from core_infra.framework import (
    Core,
    CoreStatus,
    service_for,
    with_name,
)
from framework_support import Diary, Noted

if TYPE_CHECKING:
    from collections.abc import Callable

    InThreads = Callable[[Callable[[int], None], int], None]


def at_startup(work: Callable[[Core], object]) -> Callable[[Core], object]:
    """A factory of a service that does *work* when it starts."""

    class Worker:
        def __init__(self, core: Core) -> None:
            self.core = core

        def on_startup(self) -> None:
            work(self.core)

    return Worker


def at_shutdown(work: Callable[[Core], object]) -> Callable[[Core], object]:
    """A factory of a service that does *work* when it is shut down."""

    class Worker:
        def __init__(self, core: Core) -> None:
            self.core = core

        def on_shutdown(self) -> None:
            work(self.core)

    return Worker


def test_services_start_in_order_and_shut_down_in_reverse(diary: Diary) -> None:
    core = Core(*map(diary.service, "abc"))
    assert diary.lines == ["make a", "make b", "make c"]
    diary.lines.clear()
    with core as same:
        assert same is core
        assert diary.lines == ["start a", "start b", "start c"]
        diary.lines.clear()
    assert diary.lines == ["stop c", "stop b", "stop a"]


def test_a_service_may_be_any_object() -> None:
    made = [object(), 0, "", [], dict]

    def give(one: object, _core: Core) -> object:
        return one

    with Core(*[with_name(str(n), partial(give, one)) for n, one in enumerate(made)]) as core:
        for number, one in enumerate(made):
            assert core.service(str(number)) is one


def test_a_core_may_have_no_services() -> None:
    with Core() as core:
        core.action("x")
    assert core.status is CoreStatus.STOPPED


def test_a_service_is_found_by_name_and_type(diary: Diary) -> None:
    with Core(diary.service("a"), diary.service("b"), with_name("n", lambda _core: 7)) as core:
        assert service_for(core, "a", Noted).name == "a"
        assert service_for(core, "b", Noted).name == "b"
        assert service_for(core, "n", int) == service_for(core, "n", object) == 7


def test_a_service_of_another_type_is_an_error_that_names_both() -> None:
    core = Core(with_name("n", lambda _core: 7))
    with pytest.raises(InvalidError, match="'n' is not a Diary: it is a int"):
        service_for(core, "n", Diary)


def test_a_missing_service_is_an_error_that_names_those_there_are(diary: Diary) -> None:
    core = Core(diary.service("a"), diary.service("b"))
    with pytest.raises(
        NotFoundError, match="service 'c' not found: the services are: 'a', 'b'"
    ) as caught:
        service_for(core, "c", Noted)
    assert caught.value.service == "c"
    with pytest.raises(NotFoundError, match="the services are: none"):
        Core().service("c")


def test_two_services_of_one_name_are_refused_before_any_is_made(diary: Diary) -> None:
    with pytest.raises(AlreadyExistsError, match="two services are named 'a'"):
        Core(diary.service("a"), diary.service("b"), diary.service("a"))
    assert diary.lines == []


async def make_later(_core: Core) -> object: ...


@pytest.mark.parametrize(
    ("name", "factory", "why"),
    [
        ("", Noted, "empty name"),
        ("a", make_later, "is async"),
        ("a", 7, "'a' is not callable: it is 7"),
        ("a", None, "callable"),
    ],
)
def test_what_cannot_be_a_service_is_refused_at_once(name: str, factory: Any, why: str) -> None:
    with pytest.raises(InvalidError, match=why):
        with_name(name, factory)


class StartsLater:
    async def on_startup(self) -> None: ...


class StopsLater:
    async def on_shutdown(self) -> None: ...


@pytest.mark.parametrize("service", [StartsLater(), StopsLater()])
def test_a_service_with_an_async_life_is_refused(service: object) -> None:
    with pytest.raises(InvalidError, match=r"on_\w+ of the service 'a' is async"):
        Core(with_name("a", lambda _core: service))


def around(function: Any) -> Any:
    """A plain function around an async one, as many decorators make it."""

    def wrapper(*args: object) -> Any:
        return function(*args)

    return wrapper


class StartsByWrapper:
    on_startup = around(StartsLater.on_startup)


class StopsByWrapper:
    on_shutdown = around(StopsLater.on_shutdown)


@pytest.mark.parametrize(
    ("factory", "what"),
    [
        (lambda _core: StartsByWrapper(), "on_startup"),
        (lambda _core: StopsByWrapper(), "on_shutdown"),
        (around(make_later), "the factory of the service 'a'"),
    ],
)
def test_a_coroutine_that_nobody_would_await_is_an_error(factory: Any, what: str) -> None:
    with pytest.raises(CoreInfraError) as caught, Core(with_name("a", factory)):
        pass
    assert f"{what} has returned a coroutine, which is not awaited" in str(caught.value)


def test_a_factory_that_forgets_its_return_is_an_error() -> None:
    with pytest.raises(InvalidError, match="the service 'a' returned None"):
        Core(with_name("a", lambda _core: None))


def test_a_factory_may_use_the_services_before_its_own(diary: Diary) -> None:
    def factory(core: Core) -> list[Noted]:
        return [service_for(core, "a", Noted)]

    core = Core(diary.service("a"), with_name("b", factory))
    assert service_for(core, "b", list) == [service_for(core, "a", Noted)]


def test_a_factory_cannot_use_its_own_service_or_a_later_one(diary: Diary) -> None:
    def look(name: str, core: Core) -> Noted:
        return service_for(core, name, Noted)

    for name in ("b", "c"):
        needy = with_name("b", partial(look, name))
        with pytest.raises(NotFoundError, match=f"Put '{name}' before") as caught:
            Core(diary.service("a"), needy, diary.service("c"))
        assert caught.value.__notes__ == ["while creating the service 'b'"]


def test_a_service_finds_all_others_when_it_starts_and_earlier_ones_run(diary: Diary) -> None:
    def look(core: Core) -> None:
        assert service_for(core, "c", Noted).name == "c"
        diary.lines.append("look")

    with Core(diary.service("a"), with_name("b", at_startup(look)), diary.service("c")):
        assert diary.lines == ["make a", "make c", "start a", "look", "start c"]


def test_the_status_tells_where_in_its_life_a_core_is() -> None:
    seen: list[CoreStatus] = []

    def note(core: Core) -> object:
        seen.append(core.status)
        return core

    core = Core(
        with_name("a", note), with_name("b", at_startup(note)), with_name("c", at_shutdown(note))
    )
    note(core)
    with core:
        note(core)
    note(core)
    assert seen == list(CoreStatus)
    assert repr(core) == "<Core stopped: a, b, c>"


WRONG: list[tuple[Callable[[Core], object], str, list[CoreStatus]]] = [
    (Core.start, "made", [s for s in CoreStatus if s is not CoreStatus.MADE]),
    (
        Core.shutdown,
        "made or running",
        [CoreStatus.MAKING, CoreStatus.STARTING, CoreStatus.STOPPING],
    ),
    (lambda core: core.service("a"), "made or running", [CoreStatus.STOPPED]),
    (lambda core: core.action("x"), "open", [CoreStatus.STOPPED]),
    (lambda core: core.query("x", None), "open", [CoreStatus.STOPPED]),
    (lambda core: core.perform("x"), "open", [CoreStatus.STOPPED]),
    (lambda core: core.register_action(print), "open", [CoreStatus.STOPPED]),
    (lambda core: core.register_query(print), "open", [CoreStatus.STOPPED]),
    (lambda core: core.register_task(print), "open", [CoreStatus.STOPPED]),
]


@pytest.mark.parametrize(
    ("call", "needed", "when"),
    [(call, needed, when) for call, needed, states in WRONG for when in states],
)
def test_a_call_in_the_wrong_state_names_both_states(
    diary: Diary, call: Callable[[Core], object], needed: str, when: CoreStatus
) -> None:
    tried: list[WrongStateError] = []

    def attempt(core: Core) -> object:
        if core.status is when:
            with pytest.raises(WrongStateError) as caught:
                call(core)
            tried.append(caught.value)
        return core

    core = Core(
        diary.service("a"),
        with_name("b", attempt),
        with_name("c", at_startup(attempt)),
        with_name("d", at_shutdown(attempt)),
    )
    attempt(core)
    with core:
        attempt(core)
    attempt(core)
    (error,) = tried
    assert error.needed == needed
    assert error.found == ("closed" if needed == "open" else when.value)
    assert f"is {error.found}" in str(error)
    assert diary.lines == ["make a", "start a", "stop a"]  # and it has changed nothing


def test_the_bus_is_open_from_the_first_factory_to_the_last_shutdown() -> None:
    heard: list[object] = []

    def listen(core: Core) -> object:
        core.register_action(heard.append)
        core.action("factory")
        return at_shutdown(lambda core: core.action("shutdown of the first"))(core)

    def send(core: Core) -> None:
        core.action("start")

    core = Core(with_name("a", listen), with_name("b", at_startup(send)))
    core.action("made")
    with core:
        core.action("running")
    assert heard == ["factory", "made", "start", "running", "shutdown of the first"]


def test_shutting_down_twice_does_nothing_more(diary: Diary) -> None:
    with Core(diary.service("a")) as core:
        core.shutdown()
        core.shutdown()
    assert diary.lines.count("stop a") == 1


def test_a_core_that_never_started_shuts_nothing_down(diary: Diary) -> None:
    core = Core(diary.service("a"))
    core.shutdown()
    assert diary.lines == ["make a"]
    assert core.status is CoreStatus.STOPPED


@pytest.mark.parametrize("_try", range(20))
def test_of_many_threads_one_starts_and_one_shuts_down(
    diary: Diary, in_threads: InThreads, _try: int
) -> None:
    core = Core(*map(diary.service, "abc"))
    diary.lines.clear()
    refused: list[tuple[str, str]] = []

    def start(_thread: int) -> None:
        try:
            core.start()
        except WrongStateError as error:
            refused.append((error.needed, error.found))

    def shutdown(_thread: int) -> None:
        try:
            core.shutdown()
        except WrongStateError as error:
            refused.append((error.needed, error.found))

    in_threads(start, 8)
    assert len(refused) == 7
    assert set(refused) <= {("made", "starting"), ("made", "running")}
    refused.clear()
    in_threads(shutdown, 8)
    assert set(refused) <= {("made or running", "stopping")}
    assert diary.lines == ["start a", "start b", "start c", "stop c", "stop b", "stop a"]

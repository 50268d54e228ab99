"""A nemesis: faults of several machines in one vocabulary, in the manner of Jepsen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm import Fault, Status
from core_infra.vm._names import name_of, several

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra.vm import Cluster, Machine, Network
    from core_infra.vm._fault import FaultOwner

    Target = Machine | str
    Role = Callable[[], Machine | str | None]
    Heal = Callable[[], object]


class NemesisFault(Fault):
    """What a nemesis does, from its start until :meth:`heal`, or the end of its ``with`` block.

    Attributes:
        step: the call that began it, as code, such as ``nemesis.isolate('a')``.
        target: the name of the machine, if it has one.
        stops: whether the machine does nothing meanwhile.
    """

    def __init__(
        self, step: str, target: str | None, owner: FaultOwner, *, stops: bool = False
    ) -> None:
        super().__init__(step, owner)
        self.step = step
        self.target = target
        self.stops = stops


class Nemesis:
    """Harms several machines, and the networks between them.

    Each method begins a fault, which ends with its ``with`` block, by its ``heal()``, or with all
    others by :meth:`heal`. A machine is given as such, by its name in the cluster, or by a role::

        nemesis = Nemesis(cluster, roles={"leader": lambda: find_leader(cluster)})
        with nemesis.isolate("leader"), nemesis.pause("c"):
            ...

    :class:`NemesisStateMachine` lets Hypothesis choose the faults.

    Args:
        machines: a cluster, or machines.
        networks: the networks between them, or one; None: those of the cluster.
        roles: for each role a function that returns the machine that has it now, or its name; None
            if no machine has it.
        kill: kills what is tested on a machine, such as ``lambda machine: machine.exec("pkill -9
            etcd")``; by default the machine's power is cut.
        start: starts it again when the fault is healed; by default the machine is powered on.

    Attributes:
        history: the calls until now, as code, oldest first.

    Raises:
        InvalidError: there is no machine, a role is named like a machine, one of *kill* and
            *start* is missing, or an argument is not what it must be.
    """

    def __init__(
        self,
        machines: Cluster | Iterable[Machine],
        networks: Iterable[Network] | Network | None = None,
        *,
        roles: Mapping[str, Role] | None = None,
        kill: Callable[[Machine], object] | None = None,
        start: Callable[[Machine], object] | None = None,
    ) -> None:
        self._machines = _by_name(machines)
        found: Mapping[str, Network] = getattr(machines, "networks", {})
        self._networks = _networks(found.values() if networks is None else networks)
        self._roles = _roles({} if roles is None else roles, self._machines)
        if (kill is None) != (start is None):
            raise InvalidError(
                "a nemesis needs kill= and start= together",
                why="what is killed by one function is started by the other",
            )
        for name, function in {"kill": kill, "start": start}.items():
            if function is not None and not callable(function):
                raise InvalidError(f"cannot use {name}={function!r}", why="it is not a function")
        self._kill = kill or (lambda machine: machine.power_cut())
        self._start = start or (lambda machine: machine.power_on())
        self._active = _ActiveFaults()
        self.history: list[str] = []

    @property
    def machines(self) -> list[str]:
        """The names of the machines."""
        return list(self._machines)

    @property
    def roles(self) -> list[str]:
        """The names of the roles."""
        return list(self._roles)

    @property
    def faults(self) -> list[NemesisFault]:
        """The faults that are active, oldest first."""
        return list(self._active)

    def find(self, target: Target) -> str | None:
        """The name of the machine that is meant now; None: no machine has the role.

        Raises:
            NotFoundError: there is no such machine, or role.
        """
        role = self._roles.get(target) if isinstance(target, str) else None
        found = target if role is None else role()
        if role is not None and found is None:
            return None
        name = name_of(found)
        if name not in self._machines:
            known = ", ".join([*self.machines, *self.roles])
            raise NotFoundError(
                f"the nemesis has no machine {name!r}", why=f"its machines and roles are: {known}"
            )
        return name

    def is_down(self, target: Target) -> bool:
        """Whether a machine was paused or killed, and cannot take another such fault.

        Raises:
            NotFoundError: there is no such machine, or role.
        """
        name = self.find(target)
        return any(fault.stops for fault in self._active if name and fault.target == name)

    def partition(self, side: Iterable[Target] | None = None) -> NemesisFault:
        """Let nothing pass between some machines and all others of the nemesis.

        Args:
            side: the machines of one side; None: the first half of them.

        Raises:
            InvalidError: a side is empty, or the machines are on no common network.
            NotFoundError: there is no such machine.
        """
        given = self.machines[: len(self._machines) // 2] if side is None else several(side)
        names = [self._found(target) for target in given]
        rest = [name for name in self._machines if name not in names]
        if not names or not rest:
            raise InvalidError(
                f"cannot partition {', '.join(self._machines)}",
                why=f"the sides would be {names} and {rest}",
            )
        sides = [] if side is None else [[_text(target) for target in given]]

        def separate(net: Network) -> Fault | None:
            here = [[name for name in side if name in net.machines] for side in (names, rest)]
            return net.partition(*here) if all(here) else None

        return self._begin("partition", sides, None, lambda: self._on_networks(separate))

    def isolate(self, target: Target) -> NemesisFault:
        """Let nothing pass between one machine and all that are on its networks.

        Raises:
            InvalidError: no machine has the role, or it is on no network.
            NotFoundError: there is no such machine.
        """
        name = self._found(target)

        def cut_off(net: Network) -> Fault | None:
            return net.isolate(name) if name in net.machines else None

        return self._begin("isolate", [_text(target)], name, lambda: self._on_networks(cut_off))

    def kill(self, target: Target) -> NemesisFault:
        """Kill what is tested on a machine; by default, cut its power.

        Raises:
            InvalidError: no machine has the role.
            NotFoundError: there is no such machine.
            MachineStateError: the machine does not run.
        """

        def kill(machine: Machine) -> Heal:
            self._kill(machine)
            return lambda: self._start(machine)

        return self._harm("kill", target, kill, stops=True)

    def pause(self, target: Target) -> NemesisFault:
        """Stop a machine's processors; see :meth:`Machine.pause`.

        Raises:
            InvalidError: no machine has the role.
            NotFoundError: there is no such machine.
            MachineStateError: the machine does not run.
        """
        return self._harm("pause", target, lambda machine: machine.pause().heal, stops=True)

    def jump(self, target: Target, seconds: float) -> NemesisFault:
        """Set a machine's clock forward or backward; see :meth:`MachineClock.jump`.

        Raises:
            InvalidError: no machine has the role, or the value is not possible.
            NotFoundError: there is no such machine.
            MachineStateError: the machine does not run.
        """
        return self._harm("jump", target, lambda machine: machine.clock.jump(seconds).heal, seconds)

    def skew(self, target: Target, rate: float) -> NemesisFault:
        """Run a machine's clock at another rate; see :meth:`MachineClock.skew`.

        Raises:
            InvalidError: no machine has the role, or the value is not possible.
            NotFoundError: there is no such machine.
            MachineStateError: the machine does not run.
        """
        return self._harm("skew", target, lambda machine: machine.clock.skew(rate).heal, rate)

    def heal(self) -> None:
        """End all faults, newest first; if some cannot be ended, the others are.

        Raises:
            Exception: what the first one that failed has raised.
        """
        if self._active:
            self.history.append("nemesis.heal()")
        with contextlib.ExitStack() as stack:
            for fault in self.faults:
                stack.callback(fault.heal)

    def _found(self, target: Target) -> str:
        name = self.find(target)
        if name is None:
            raise InvalidError(
                f"cannot harm the {target}",
                why="no machine has that role now",
                todo="find() returns None then.",
            )
        return name

    def _harm(
        self,
        verb: str,
        target: Target,
        harm: Callable[[Machine], Heal],
        *arguments: float,
        stops: bool = False,
    ) -> NemesisFault:
        """Begin a fault of one machine; *harm* returns what ends it."""
        name = self._found(target)
        machine = self._machines[name]
        given = [_text(target), *arguments]
        return self._begin(verb, given, name, lambda: [harm(machine)], stops=stops)

    def _on_networks(self, hurt: Callable[[Network], Fault | None]) -> list[Heal]:
        """Begin a fault on all networks where it is possible; on all or on none."""
        with contextlib.ExitStack() as undo:
            begun: list[Heal] = []
            for network in self._networks:
                fault = hurt(network)
                if fault is not None:
                    undo.callback(fault.heal)
                    begun.append(fault.heal)
            if not begun:
                for name, machine in self._machines.items():
                    if machine.status is Status.STOPPED:
                        raise InvalidError(
                            "cannot separate the machines", why=f"machine {name} was stopped"
                        )
                names = ", ".join(network.name for network in self._networks) or "none"
                raise InvalidError(
                    "cannot separate the machines",
                    why=f"no network connects them; networks of the nemesis: {names}",
                    todo="Use a cluster with a network, or give networks=[…].",
                )
            undo.pop_all()
        return begun

    def _begin(
        self,
        verb: str,
        arguments: Sequence[object],
        target: str | None,
        begin: Callable[[], list[Heal]],
        *,
        stops: bool = False,
    ) -> NemesisFault:
        step = f"nemesis.{verb}({', '.join(map(repr, arguments))})"
        fault = NemesisFault(step, target, self._active, stops=stops)
        self._active[fault] = begin()
        is_role = target is not None and target != arguments[0]
        self.history.append(f"{step}  # {target}" if is_role else step)
        return fault


class _ActiveFaults(dict["NemesisFault", "list[Heal]"]):
    """The faults of a nemesis that are active, with what ends each."""

    def has(self, fault: Fault) -> bool:
        return fault in self

    def end(self, fault: Fault) -> None:
        with contextlib.ExitStack() as stack:
            for heal in self.pop(fault, []) if isinstance(fault, NemesisFault) else []:
                stack.callback(heal)
        fault.finish()


def _text(target: Target) -> str:
    return name_of(target)


def _networks(networks: object) -> list[Any]:
    found = several(networks)
    for network in found:
        if not callable(getattr(network, "isolate", None)):
            raise InvalidError(
                f"a nemesis cannot hurt the network {network!r}",
                why="it is not a network",
                todo="Give those that launcher.network() or core_network() has made.",
            )
    return found


def _roles(roles: object, machines: Mapping[str, Machine]) -> dict[str, Role]:
    if not isinstance(roles, Mapping):
        raise InvalidError(
            f"cannot use the roles {roles!r}",
            todo='Give a function for each: roles={"leader": find_leader}.',
        )
    for role, holder in roles.items():
        if not isinstance(role, str) or not role:
            raise InvalidError(f"cannot use the role {role!r}", why="its name is a text")
        if role in machines or not callable(holder):
            why = "a machine has that name" if callable(holder) else "it needs a function"
            raise InvalidError(f"cannot use the role {role!r}", why=why)
    return dict(roles)


def _by_name(machines: object) -> dict[str, Machine]:
    found: dict[str, Machine] = {}
    for machine in several(machines):
        name = name_of(machine)
        if isinstance(machine, str) or name in found:
            why = "only its name was given" if isinstance(machine, str) else "it was given twice"
            raise InvalidError(f"a nemesis cannot harm {name}", why=why)
        found[name] = machine
    if not found:
        raise InvalidError("a nemesis needs machines", why="it was given none")
    return found

"""Run in a guest what tests do first: under emulation, code that has run is translated already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.vm.guest.guest import Guest

if TYPE_CHECKING:
    from core_infra.vm.guest.client import AgentClient
    from core_infra.vm.instance import Instance

_WARM_UP = """\
echo hi; cat /etc/hostname; ls / >/dev/null; ps >/dev/null; mkdir -p /tmp/.warm; cd /tmp/.warm
echo x >a; grep -q x a && sed s/x/y/ a >b; cp b c; mv c d; [ -f d ] && test "$(cat d)" = y
sleep 0.01 & wait; id -u; uname -a; head -c 100 /dev/zero | wc -c; cd /; rm -r /tmp/.warm
"""
_ROUNDS = 3


class Inside(Guest):
    """The inside of a machine that nobody holds yet."""

    def __init__(self, agent: AgentClient) -> None:
        super().__init__()
        self._agent = agent

    @property
    def agent(self) -> AgentClient:
        """The connection to the agent."""
        return self._agent


def warm_up(instance: Instance, *, rounds: int = _ROUNDS) -> None:
    """Run in a guest what tests do first."""
    guest = Inside(instance.agent)
    for _ in range(rounds):
        guest.exec(_WARM_UP, check=True)
        guest.write_text("/root/.warm", "x")
        guest.read_text("/root/.warm")
        guest.exec(["rm", "/root/.warm"])

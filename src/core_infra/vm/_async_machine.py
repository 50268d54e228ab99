"""A machine for asyncio: its guest, and its power."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from core_infra.vm._guest.async_guest import AsyncGuest, FileCopier

if TYPE_CHECKING:
    import re

    from core_infra.vm._guest.calls import GuestCalls
    from core_infra.vm._machine_power import Waitable


class PoweredMachine(FileCopier, Protocol):
    """The part of a machine that is called on a thread."""

    def reboot(self, *, timeout: float | None = None) -> None:
        """Have the guest restart in order."""

    def reset(self, *, timeout: float | None = None) -> None:
        """Press the reset button."""

    def power_off(self, *, timeout: float | None = None) -> None:
        """Have the guest shut down in order."""

    def power_cut(
        self,
        *,
        until: str | re.Pattern[str] | Waitable | None = None,
        timeout: float | None = None,
    ) -> None:
        """Cut the power."""

    def power_on(self, *, timeout: float | None = None) -> None:
        """Boot the machine from its disks."""


class AsyncMachine(AsyncGuest):
    """The type of ``machine.aio``; arguments and errors are those of the machine's own methods.

    Cancelling a call ends its command in the guest, with all of its process group. Files are copied
    on a thread, as asyncio has no file operations; so is the power switched, which cannot be
    cancelled.
    """

    def __init__(self, machine: PoweredMachine, calls: GuestCalls) -> None:
        super().__init__(machine, calls)
        self._machine = machine

    async def reboot(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as in sync
        """Have the guest restart in order; as ``Machine.reboot``."""
        await asyncio.to_thread(self._machine.reboot, timeout=timeout)

    async def reset(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Press the reset button; as ``Machine.reset``."""
        await asyncio.to_thread(self._machine.reset, timeout=timeout)

    async def power_off(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Have the guest shut down in order; as ``Machine.power_off``."""
        await asyncio.to_thread(self._machine.power_off, timeout=timeout)

    async def power_cut(
        self,
        *,
        until: str | re.Pattern[str] | Waitable | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> None:
        """Cut the power; as ``Machine.power_cut``."""
        await asyncio.to_thread(self._machine.power_cut, until=until, timeout=timeout)

    async def power_on(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Boot the machine from its disks; as ``Machine.power_on``."""
        await asyncio.to_thread(self._machine.power_on, timeout=timeout)

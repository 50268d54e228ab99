"""Contracts for your own media, builders, hypervisors and handlers, and a nemesis for clusters.

The contracts are test classes to subclass. The random tests of ``MediumContract`` and
``NemesisStateMachine`` need the extra ``testing``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra import _lazy

if TYPE_CHECKING:
    from core_infra.testing._builder_contract import BuilderContract
    from core_infra.testing._handler_contract import HandlerContract
    from core_infra.testing._hypervisor_contract import HypervisorContract
    from core_infra.testing._medium_contract import MediumContract
    from core_infra.testing._nemesis import Nemesis, NemesisFault
    from core_infra.testing._nemesis_rules import NemesisStateMachine
    from core_infra.testing._toolchain import Call, Toolchain
else:
    __getattr__ = _lazy.exports(
        __name__,
        {
            "._builder_contract": ("BuilderContract",),
            "._handler_contract": ("HandlerContract",),
            "._hypervisor_contract": ("HypervisorContract",),
            "._medium_contract": ("MediumContract",),
            "._nemesis": ("Nemesis", "NemesisFault"),
            "._nemesis_rules": ("NemesisStateMachine",),
            "._toolchain": ("Call", "Toolchain"),
        },
    )

__all__ = [
    "BuilderContract",
    "Call",
    "HandlerContract",
    "HypervisorContract",
    "MediumContract",
    "Nemesis",
    "NemesisFault",
    "NemesisStateMachine",
    "Toolchain",
]

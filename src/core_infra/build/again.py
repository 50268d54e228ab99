"""The second of two builds, in a process of its own: ``python -m core_infra.build.again``.

It reads what to build as JSON from its standard input; see :mod:`core_infra.build.twice`.
"""

from __future__ import annotations

import json
import sys

from core_infra.build.archive import Format, Profile
from core_infra.build.artifact import Target
from core_infra.build.pipeline import carry_out
from core_infra.build.plan import Packing
from core_infra.build.preflight import make_plan
from core_infra.build.project import ProjectType
from core_infra.errors import CoreInfraError


def main() -> None:
    """Build what standard input says."""
    order = json.load(sys.stdin)
    form, profile = order["packing"]
    plan = make_plan(
        order["project"],
        goal=order["goal"],
        packing=Packing(Format(form), Profile(profile)),
        output=order["output"],
        targets=[Target.parse(text) for text in order["targets"]],
        type=ProjectType(order["type"]),
        name=order["name"],
        version=order["version"],
        threads=order["threads"],
        launcher=tuple(order["launcher"]),
    )
    carry_out(plan)


if __name__ == "__main__":
    try:
        main()
    except CoreInfraError as error:
        sys.exit(str(error))

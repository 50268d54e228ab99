"""The program of the second build: ``python -m core_infra.build._second_build``.

It reads the order as JSON from standard input; see :mod:`core_infra.build._reproducibility`.
"""

from __future__ import annotations

import json
import sys

from core_infra.build._archives.archive import Format, Profile
from core_infra.build._artifact import Target
from core_infra.build._pipeline import carry_out
from core_infra.build._plan import Packing
from core_infra.build._preflight import make_plan
from core_infra.build._project import ProjectType
from core_infra.errors import CoreInfraError


def main() -> None:
    """Carry out the order from standard input."""
    order = json.load(sys.stdin)
    form, profile = order["packing"]
    plan = make_plan(
        order["project"],
        goal=order["goal"],
        packing=Packing(Format(form), Profile(profile)),
        output=order["output"],
        targets=[Target.parse(text) for text in order["targets"]],
        type=ProjectType(order["type"]) if order["type"] else None,
        name=order["name"],
        version=order["version"],
        threads=order["threads"],
        launcher=tuple(order["launcher"]),
        builds=order["builds"],
    )
    print(carry_out(plan).directory)  # noqa: T201 - the answer


if __name__ == "__main__":
    try:
        main()
    except CoreInfraError as error:
        sys.exit(str(error))

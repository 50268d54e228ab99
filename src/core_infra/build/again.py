"""The second of two builds, in a process of its own: ``python -m core_infra.build.again``.

It reads what to build as JSON from its standard input; see :mod:`core_infra.build.twice`.
"""

from __future__ import annotations

import json
import sys

from core_infra.build.artifact import Target
from core_infra.build.pipeline import Packing, build, package
from core_infra.build.plan import make_plan
from core_infra.build.project import ProjectType
from core_infra.errors import CoreInfraError


def main() -> None:
    """Build what standard input says."""
    order = json.load(sys.stdin)
    plan = make_plan(
        order["project"],
        output=order["output"],
        targets=[Target.parse(text) for text in order["targets"]],
        type=ProjectType(order["type"]),
        name=order["name"],
        version=order["version"],
        threads=order["threads"],
        launcher=tuple(order["launcher"]),
    )
    if order["packing"] is None:
        build(plan)
    else:
        package(plan, Packing(*order["packing"]))


if __name__ == "__main__":
    try:
        main()
    except CoreInfraError as error:
        sys.exit(str(error))

"""What the parts of one release have in common, so that parts of others are refused."""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core_infra.build._config.settings import BuildConfig
    from core_infra.build._plan import BuildPlan


def common_of(plan: BuildPlan, sources: Mapping[str, str]) -> dict[str, Any]:
    """What all parts of a plan's release have in common.

    Args:
        plan: the plan.
        sources: the digests of the sources of each build, without what git ignores.
    """
    context = plan.context
    return {
        "name": context.name,
        "version": context.version,
        "commit": context.commit,
        "snapshot": plan.snapshot,
        "epoch": context.epoch,
        "configuration": _configuration_digest(context.settings, plan),
        "sources": dict(sources),
        "core_infra": importlib.metadata.version("core-infra"),
    }


def _configuration_digest(settings: BuildConfig, plan: BuildPlan) -> str:
    """A digest of the configuration, without keys: those may differ on each host."""
    known = {one.name: getattr(settings, one.name) for one in fields(settings)}
    plain = [known[name] for name in sorted(known) if name not in {"sign", "builds", "targets"}]
    builds = [replace(one.config, sign=settings.sign) for one in settings.builds]
    inner = [repr(replace(one, sign=type(one.sign)())) for one in builds]
    packing = (str(plan.packing.format), str(plan.packing.profile))
    return hashlib.sha256(repr((plain, inner, packing)).encode()).hexdigest()

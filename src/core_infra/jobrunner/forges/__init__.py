"""GitHub and Forgejo, as far as jobs need them.

The clients are :class:`core_infra.jobrunner.forges.github.GitHub` and
:class:`core_infra.jobrunner.forges.forgejo.Forgejo`; only they need ``core-infra[jobs]``.
"""

from core_infra.jobrunner.forges.forge import Child, Details, Epic, Forge, Pull
from core_infra.jobrunner.forges.token import Token

__all__ = ["Child", "Details", "Epic", "Forge", "Pull", "Token"]

"""GitHub and Forgejo, as far as jobs need them.

The clients are :class:`core_infra.jobrunner._forges.github.GitHub` and
:class:`core_infra.jobrunner._forges.forgejo.Forgejo`; only they need ``core-infra[jobs]``.
"""

from core_infra.jobrunner._forges.endpoint import Token
from core_infra.jobrunner._forges.forge import Child, Details, Epic, Forge, Pull

__all__ = ["Child", "Details", "Epic", "Forge", "Pull", "Token"]

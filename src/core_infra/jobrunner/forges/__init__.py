"""GitHub and Forgejo, as far as jobs need them."""

from core_infra.jobrunner.forges.forge import Child, Details, Epic, Forge, Pull
from core_infra.jobrunner.forges.forgejo import Forgejo
from core_infra.jobrunner.forges.github import GitHub
from core_infra.jobrunner.forges.token import Token

__all__ = ["Child", "Details", "Epic", "Forge", "Forgejo", "GitHub", "Pull", "Token"]

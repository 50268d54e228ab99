"""For tests of what others build on core_infra: the contracts that its parts keep."""

from core_infra.testing._medium_contract import MediumContract

__all__ = ["MediumContract"]

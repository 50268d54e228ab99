"""Contracts for your own media, builders and hypervisors: test classes to subclass.

``MediumContract`` needs nothing but the package; its random tests need the extra ``testing``.
"""

from core_infra.testing._medium_contract import MediumContract

__all__ = ["MediumContract"]

"""Child processes: started, watched, and gone when they should be."""

from core_infra.process.child import Child, ProgramNotFoundError, spawn

__all__ = ["Child", "ProgramNotFoundError", "spawn"]

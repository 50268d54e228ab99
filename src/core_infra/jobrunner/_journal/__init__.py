"""The journal: a write-ahead log of actions."""

from core_infra.jobrunner._journal.entry import Entry, Phase
from core_infra.jobrunner._journal.index import Index, State, Status
from core_infra.jobrunner._journal.journal import FileCheck, Journal

__all__ = ["Entry", "FileCheck", "Index", "Journal", "Phase", "State", "Status"]

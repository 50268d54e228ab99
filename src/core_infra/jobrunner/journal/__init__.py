"""The journal: a write-ahead log of actions."""

from core_infra.jobrunner.journal.entry import Entry, Phase
from core_infra.jobrunner.journal.index import Index
from core_infra.jobrunner.journal.journal import FileCheck, Journal
from core_infra.jobrunner.journal.state import State, Status

__all__ = ["Entry", "FileCheck", "Index", "Journal", "Phase", "State", "Status"]

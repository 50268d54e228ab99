"""Where signals come from."""

from core_infra.jobrunner.sources.directory import DirectorySource
from core_infra.jobrunner.sources.epics import EpicSource
from core_infra.jobrunner.sources.recorded import RecordedSource

__all__ = ["DirectorySource", "EpicSource", "RecordedSource"]

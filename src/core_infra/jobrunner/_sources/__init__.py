"""Where signals come from."""

from core_infra.jobrunner._sources.directory import DirectorySource
from core_infra.jobrunner._sources.epics import EpicSource
from core_infra.jobrunner._sources.recorded import RecordedSource

__all__ = ["DirectorySource", "EpicSource", "RecordedSource"]

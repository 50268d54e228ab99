"""Where signals come from."""

from core_infra.jobrunner.sources.directory import DirectorySource
from core_infra.jobrunner.sources.recorded import RecordedSource

__all__ = ["DirectorySource", "RecordedSource"]

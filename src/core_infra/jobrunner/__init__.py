"""Signals in, actions out, and a record of what was done that survives a crash.

A :class:`Poller` polls its sources for :class:`PipelineSignal`, lets the first handler that matches
a signal act on it, and records each action in a :class:`Journal`::

    from core_infra.jobrunner import Journal, Poller, PollerConfig

    with (
        Journal(".core/journal") as journal,
        Poller(PollerConfig([source], [handler], journal)) as poller,
    ):
        poller.run()

``GitHub`` and ``Forgejo`` need ``core-infra[jobs]``, ``Metrics`` needs ``core-infra[metrics]``,
``SharedJournal`` needs ``core-infra[postgresql]``.
"""

from typing import TYPE_CHECKING

from core_infra import _lazy

if TYPE_CHECKING:
    from core_infra.jobrunner._clock import Clock, FakeClock, SystemClock
    from core_infra.jobrunner._config.load import load_jobs_config
    from core_infra.jobrunner._config.parts import make_parts
    from core_infra.jobrunner._config.settings import JobsConfig
    from core_infra.jobrunner._cycle_state import CycleReport, Rehearsal
    from core_infra.jobrunner._events import (
        ActionCycleEnded,
        ActionJobEnded,
        ActionJobStarted,
        ActionSourcePolled,
    )
    from core_infra.jobrunner._forges.endpoint import Token
    from core_infra.jobrunner._forges.errors import (
        ForgeAnswerError,
        ForgeNotFoundError,
        ForgeRefusedError,
        ForgeUnavailableError,
        NotNowError,
        RateLimitedError,
    )
    from core_infra.jobrunner._forges.forge import (
        Child,
        Comment,
        Details,
        Epic,
        Forge,
        Merge,
        Pull,
        Repo,
        Rights,
        SubIssue,
    )
    from core_infra.jobrunner._forges.forgejo import Forgejo
    from core_infra.jobrunner._forges.github import GitHub
    from core_infra.jobrunner._forges.rate_limits import RateLimit
    from core_infra.jobrunner._handlers.command import CheckedCommandHandler, CommandHandler
    from core_infra.jobrunner._handlers.dispatch import Dispatch
    from core_infra.jobrunner._handlers.forge import (
        AgentCompletion,
        CommentHandler,
        Completion,
        DismissReviews,
        EnableAutoMerge,
        ForgeHandler,
        PublishDraft,
        PullHandler,
        ResolveThreads,
        SendFixCommand,
        TickParent,
    )
    from core_infra.jobrunner._handlers.merge_rules import MergeRules
    from core_infra.jobrunner._interfaces import (
        Job,
        JobHandler,
        JobSource,
        Reconciling,
        Rehearsing,
        Touching,
    )
    from core_infra.jobrunner._journal.actions import Action, group_actions
    from core_infra.jobrunner._journal.entry import Entry, Phase
    from core_infra.jobrunner._journal.hash_chain import ChainBreak
    from core_infra.jobrunner._journal.html_report import html_report
    from core_infra.jobrunner._journal.index import ActionState, ActionStatus, Index
    from core_infra.jobrunner._journal.journal import FileCheck, Journal
    from core_infra.jobrunner._journal.log_file import Span
    from core_infra.jobrunner._journal.shared import SharedJournal
    from core_infra.jobrunner._leadership import NotLeaderError
    from core_infra.jobrunner._logging import JsonFormatter
    from core_infra.jobrunner._metrics import Metrics
    from core_infra.jobrunner._poller import Poller
    from core_infra.jobrunner._poller_config import PollerConfig
    from core_infra.jobrunner._replay import Decision, replay
    from core_infra.jobrunner._signal import ActionResult, PipelineSignal
    from core_infra.jobrunner._sources.directory import DirectorySource
    from core_infra.jobrunner._sources.epics import EpicSource
    from core_infra.jobrunner._sources.recorded import RecordedSource
else:
    __getattr__ = _lazy.exports(
        __name__,
        {
            "._clock": ("Clock", "FakeClock", "SystemClock"),
            "._poller_config": ("PollerConfig",),
            "._config.load": ("load_jobs_config",),
            "._config.settings": ("JobsConfig",),
            "._cycle_state": ("CycleReport", "Rehearsal"),
            "._events": (
                "ActionCycleEnded",
                "ActionJobEnded",
                "ActionJobStarted",
                "ActionSourcePolled",
            ),
            "._forges.endpoint": ("Token",),
            "._forges.errors": (
                "ForgeAnswerError",
                "ForgeNotFoundError",
                "ForgeRefusedError",
                "ForgeUnavailableError",
                "NotNowError",
                "RateLimitedError",
            ),
            "._forges.forge": (
                *("Child", "Comment", "Details", "Epic", "Forge", "Merge", "Pull", "Repo"),
                *("Rights", "SubIssue"),
            ),
            "._forges.forgejo": ("Forgejo",),
            "._forges.github": ("GitHub",),
            "._forges.rate_limits": ("RateLimit",),
            "._config.parts": ("make_parts",),
            "._handlers.command": ("CheckedCommandHandler", "CommandHandler"),
            "._handlers.dispatch": ("Dispatch",),
            "._handlers.forge": (
                "AgentCompletion",
                "CommentHandler",
                "Completion",
                "DismissReviews",
                "EnableAutoMerge",
                "ForgeHandler",
                "PublishDraft",
                "PullHandler",
                "ResolveThreads",
                "SendFixCommand",
                "TickParent",
            ),
            "._handlers.merge_rules": ("MergeRules",),
            "._interfaces": (
                "Job",
                "JobHandler",
                "JobSource",
                "Reconciling",
                "Rehearsing",
                "Touching",
            ),
            "._journal.actions": ("Action", "group_actions"),
            "._journal.entry": ("Entry", "Phase"),
            "._journal.hash_chain": ("ChainBreak",),
            "._journal.html_report": ("html_report",),
            "._journal.index": ("ActionState", "ActionStatus", "Index"),
            "._journal.journal": ("FileCheck", "Journal"),
            "._journal.log_file": ("Span",),
            "._journal.shared": ("SharedJournal",),
            "._leadership": ("NotLeaderError",),
            "._logging": ("JsonFormatter",),
            "._metrics": ("Metrics",),
            "._poller": ("Poller",),
            "._replay": ("Decision", "replay"),
            "._signal": ("ActionResult", "PipelineSignal"),
            "._sources.directory": ("DirectorySource",),
            "._sources.epics": ("EpicSource",),
            "._sources.recorded": ("RecordedSource",),
        },
    )

__all__ = [
    "Action",
    "ActionCycleEnded",
    "ActionJobEnded",
    "ActionJobStarted",
    "ActionResult",
    "ActionSourcePolled",
    "ActionState",
    "ActionStatus",
    "AgentCompletion",
    "ChainBreak",
    "CheckedCommandHandler",
    "Child",
    "Clock",
    "CommandHandler",
    "Comment",
    "CommentHandler",
    "Completion",
    "CycleReport",
    "Decision",
    "Details",
    "DirectorySource",
    "DismissReviews",
    "Dispatch",
    "EnableAutoMerge",
    "Entry",
    "Epic",
    "EpicSource",
    "FakeClock",
    "FileCheck",
    "Forge",
    "ForgeAnswerError",
    "ForgeHandler",
    "ForgeNotFoundError",
    "ForgeRefusedError",
    "ForgeUnavailableError",
    "Forgejo",
    "GitHub",
    "Index",
    "Job",
    "JobHandler",
    "JobSource",
    "JobsConfig",
    "Journal",
    "JsonFormatter",
    "Merge",
    "MergeRules",
    "Metrics",
    "NotLeaderError",
    "NotNowError",
    "Phase",
    "PipelineSignal",
    "Poller",
    "PollerConfig",
    "PublishDraft",
    "Pull",
    "PullHandler",
    "RateLimit",
    "RateLimitedError",
    "Reconciling",
    "RecordedSource",
    "Rehearsal",
    "Rehearsing",
    "Repo",
    "ResolveThreads",
    "Rights",
    "SendFixCommand",
    "SharedJournal",
    "Span",
    "SubIssue",
    "SystemClock",
    "TickParent",
    "Token",
    "Touching",
    "group_actions",
    "html_report",
    "load_jobs_config",
    "make_parts",
    "replay",
]

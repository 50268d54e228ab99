"""Metrics for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.errors import UnavailableError
from core_infra.jobrunner._events import (
    ActionCycleEnded,
    ActionJobEnded,
    ActionSourcePolled,
)

try:
    import prometheus_client
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
except ImportError as missing:
    raise UnavailableError(
        "cannot make metrics",
        why="that needs prometheus-client",
        todo="Install it with: pip install core-infra[metrics]",
    ) from missing

if TYPE_CHECKING:
    from core_infra.framework._bus import Bus

_NAME = "core_infra_jobs"
_DURATIONS = (0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 900)


class Metrics:
    """Metrics of a poller, made from the events on its bus.

    Args:
        bus: the poller's bus.

    Attributes:
        registry: the registry with the metrics, for an exporter of your own.
    """

    def __init__(self, bus: Bus) -> None:
        registry = self.registry = CollectorRegistry()
        self._cycles = Histogram(
            f"{_NAME}_cycle_seconds", "Duration of cycles", buckets=_DURATIONS, registry=registry
        )
        self._polls = Counter(
            f"{_NAME}_polls", "Answers of sources", ["source", "outcome"], registry=registry
        )
        self._signals = Gauge(
            f"{_NAME}_signals", "Signals of the last poll", ["source"], registry=registry
        )
        self._done = Counter(
            f"{_NAME}_actions", "Actions that ended", ["action", "outcome"], registry=registry
        )
        self._times = Histogram(
            f"{_NAME}_action_seconds",
            "Duration of actions",
            ["action"],
            buckets=_DURATIONS,
            registry=registry,
        )
        self._last = Gauge(
            f"{_NAME}_last_cycle_timestamp_seconds", "When a cycle ended last", registry=registry
        )
        self._points = Gauge(
            f"{_NAME}_rate_limit_points",
            "Points of a forge's rate limit in an hour",
            ["source", "resource"],
            registry=registry,
        )
        self._remaining = Gauge(
            f"{_NAME}_rate_limit_remaining",
            "Points of a forge's rate limit that are left",
            ["source", "resource"],
            registry=registry,
        )
        bus.register_action(self._polled, ActionSourcePolled)
        bus.register_action(self._ended, ActionJobEnded)
        bus.register_action(self._cycled, ActionCycleEnded)

    def text(self) -> str:
        """All metrics in Prometheus' text format."""
        return prometheus_client.generate_latest(self.registry).decode()

    def serve(self, port: int, address: str = "127.0.0.1") -> str:
        """Serve the metrics to Prometheus, on a thread of its own.

        Args:
            port: the port; 0 is any free one.
            address: where to listen.

        Returns:
            The URL of the metrics.

        Raises:
            UnavailableError: the port is taken.
        """
        try:
            server, _ = prometheus_client.start_http_server(port, address, self.registry)
        except OSError as error:
            raise UnavailableError(
                f"cannot serve metrics at port {port}", why=str(error)
            ) from error
        return f"http://{address}:{server.server_port}/metrics"

    def _polled(self, event: ActionSourcePolled) -> None:
        self._polls.labels(event.source, "failed" if event.error else "done").inc()
        self._signals.labels(event.source).set(event.signals)
        for limit in event.limits:
            self._points.labels(event.source, limit.resource).set(limit.points)
            self._remaining.labels(event.source, limit.resource).set(limit.remaining)

    def _ended(self, event: ActionJobEnded) -> None:
        action = event.job.action
        self._done.labels(action, "done" if event.result.success else "failed").inc()
        self._times.labels(action).observe(event.result.duration_ms / 1000)

    def _cycled(self, event: ActionCycleEnded) -> None:
        self._cycles.observe(event.duration)
        self._last.set_to_current_time()

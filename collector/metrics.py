"""Prometheus metrics in a registry of their own: counted while working, some read from the store.

Times and durations are in seconds, as Prometheus names them.
"""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import prometheus_client as prometheus

from collector import __version__
from collector.models import LaneKey, Outcome, Result
from collector.queue.letters import Depth
from collector.store import migrate
from collector.store.engine import Database
from collector.store.freshness import lane_figures

__all__ = ["LAG_PERIOD_S", "Metrics"]

LAG_PERIOD_S: Final = 0.05
"""How often the event loop's lateness is measured (seconds)."""

_LANE: Final = ("account", "region")
_COMMIT_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LAG_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_WAIT_BUCKETS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """What one process counts; what has one place where it is set is set there, by its labels."""

    def __init__(self) -> None:
        # A time beside every count, which nobody asks for; the library is partly typed.
        prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = prometheus.CollectorRegistry()
        name, registry = "collector", self.registry
        counter = partial(prometheus.Counter, namespace=name, registry=registry)
        gauge = partial(prometheus.Gauge, namespace=name, registry=registry)
        histogram = partial(prometheus.Histogram, namespace=name, registry=registry)
        self._requests = counter("requests", "Requests sent.", _LANE)
        self._retries = counter("retries", "Requests that repeated an earlier one.", _LANE)
        self._throttled = counter("throttled", "Requests answered with 429.", _LANE)
        self._items = counter("items", "Items committed.", (*_LANE, "outcome"))
        self._runs = counter("runs", "Runs finished.", ("trigger", "status"))
        self.sessions = counter("sessions_lost", "Times all work stopped and began anew.")
        self._turn = histogram(
            "lane_wait_seconds",
            "How long a request waited for its turn.",
            _LANE,
            buckets=_WAIT_BUCKETS,
        )
        self._commit = histogram(
            "commit_seconds", "How long the commit of a batch took.", buckets=_COMMIT_BUCKETS
        )
        self._lag = histogram(
            "loop_lag_seconds", "How late the event loop was, every 50 ms.", buckets=_LAG_BUCKETS
        )
        self._worst_lag = gauge("loop_lag_max_seconds", "The latest it ever was.")
        self.rate = gauge("lane_rate", "Requests a second that are allowed now.", _LANE)
        self._success = gauge(
            "lane_last_success_timestamp_seconds",
            "When the last run that read all of a lane was finished.",
            _LANE,
        )
        self._coverage = gauge(
            "lane_coverage_ratio", "Share of a lane that its last run read.", _LANE
        )
        self._queue = gauge("queue_items", "Items of the queue.", (*_LANE, "state"))
        self._queue_age = gauge("queue_oldest_seconds", "Age of the oldest item that waits.", _LANE)
        self.held = gauge("account_held", "1: this process serves the account.", ["account"])
        gauge("build_info", "Always 1.", ["version"]).labels(__version__).set(1)
        self.schema = gauge("schema_info", "Always 1: the schema's revision.", ["revision"])
        self._worst = 0.0

    def reply(self, key: LaneKey, outcome: Outcome, attempt: int, waited_s: float) -> None:
        """An answer came."""
        lane = (key.account, key.region)
        self._requests.labels(*lane).inc()
        self._turn.labels(*lane).observe(waited_s)
        self._retries.labels(*lane).inc(attempt > 1)  # or by 0, so that it is there
        self._throttled.labels(*lane).inc(outcome is Outcome.THROTTLED)

    def committed(self, keys: Sequence[LaneKey], results: Sequence[Result], took_s: float) -> None:
        """A batch is in the database."""
        self._commit.observe(took_s)
        for key, result in zip(keys, results, strict=True):
            self._items.labels(key.account, key.region, result.outcome.value).inc()

    def finished(self, trigger: str, status: str) -> None:
        """A run is finished."""
        self._runs.labels(trigger, status).inc()

    def lane(self, key: LaneKey, last_success: datetime | None, coverage: float) -> None:
        """What the database tells of a lane."""
        lane = (key.account, key.region)
        self._coverage.labels(*lane).set(coverage)
        if last_success is not None:
            self._success.labels(*lane).set(last_success.timestamp())

    def queue(self, depths: Iterable[Depth]) -> None:
        """What the queue holds."""
        self._queue.clear()
        self._queue_age.clear()
        for depth in depths:
            lane = (depth.account, depth.region)
            for state in ("ready", "delayed", "in_flight", "failed"):
                self._queue.labels(*lane, state).set(getattr(depth, state))
            self._queue_age.labels(*lane).set(depth.oldest_s or 0.0)

    async def refresh(self, database: Database, depths: Iterable[Depth]) -> None:
        """Put in what the database and the queue know."""
        self.schema.labels(migrate.head()).set(1)
        for key, figures in (await lane_figures(database)).items():
            self.lane(key, *figures)
        self.queue(depths)

    async def watch_loop(self) -> None:
        """Measure how late the event loop is, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_PERIOD_S
            await asyncio.sleep(LAG_PERIOD_S)
            late = max(0.0, loop.time() - due)
            self._lag.observe(late)
            if late > self._worst:
                self._worst = late
                self._worst_lag.set(late)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return prometheus.generate_latest(self.registry)

    def write(self, path: Path) -> None:
        """Replace a file for node_exporter's textfile collector, all at once.

        Raises:
            OSError: it cannot be written.
        """
        prometheus.write_to_textfile(str(path), self.registry)
        path.chmod(0o644)  # whatever the umask: another user's node_exporter reads it

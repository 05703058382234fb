"""Metrics: what is counted, the text, the file, and the loop's lag."""

import asyncio
import stat
import time
from datetime import UTC, datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families

from collector.metrics import Metrics
from collector.models import Item, LaneKey, Outcome, Result
from collector.queue.letters import Depth

KEY = LaneKey("default", "cn-north-1")
LANE = {"account": "default", "region": "cn-north-1"}


def samples(metrics: Metrics) -> dict:
    families = text_string_to_metric_families(metrics.text().decode())
    return {
        (sample.name.removeprefix("collector_"), *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def of(metrics: Metrics, name: str, **labels) -> float | None:
    return samples(metrics).get((name, *sorted(labels.items())))


def test_replies_are_counted():
    """Each answer is a request; a repetition is a retry besides, a 429 a throttled one."""
    metrics = Metrics()
    metrics.reply(KEY, Outcome.PRESENT, 1, 0.02)
    assert of(metrics, "retries_total", **LANE) == 0
    metrics.reply(KEY, Outcome.THROTTLED, 2, 0.2)

    assert of(metrics, "requests_total", **LANE) == 2
    assert of(metrics, "retries_total", **LANE) == 1
    assert of(metrics, "throttled_total", **LANE) == 1
    assert of(metrics, "lane_wait_seconds_count", **LANE) == 2
    assert of(metrics, "lane_wait_seconds_sum", **LANE) == pytest.approx(0.22)


def test_commits_are_counted():
    """A committed item counts by its outcome; the batch's time goes into a histogram."""
    metrics, now = Metrics(), datetime.now(UTC)
    results = [Result(Item(1, 1, n, f"img-{n}"), Outcome.NOT_FOUND, 1, 1, now) for n in range(3)]
    metrics.committed([KEY] * 3, results, 0.03)

    assert of(metrics, "items_total", **LANE, outcome="not_found") == 3
    assert of(metrics, "commit_seconds_count") == 1


def test_lanes_and_queue_follow_the_database():
    """What is read from the store replaces what was there; a lane that is gone is not shown."""
    metrics, at = Metrics(), datetime(2026, 1, 1, tzinfo=UTC)
    metrics.lane(KEY, at, 0.5)
    metrics.queue([Depth("default", "cn-north-1", 2, 0, 0, 1, 30.0, None)])
    assert of(metrics, "lane_last_success_timestamp_seconds", **LANE) == at.timestamp()
    assert of(metrics, "lane_coverage_ratio", **LANE) == 0.5
    assert of(metrics, "queue_items", **LANE, state="ready") == 2
    assert of(metrics, "queue_oldest_seconds", **LANE) == 30

    metrics.queue([])

    assert of(metrics, "queue_items", **LANE, state="ready") is None


def test_registries_are_apart():
    """Two in one process do not see each other's counts."""
    one, other = Metrics(), Metrics()
    one.finished("run", "complete")

    assert of(one, "runs_total", trigger="run", status="complete") == 1
    assert of(other, "runs_total", trigger="run", status="complete") is None


def test_file_is_replaced_whole(tmp_path):
    """The file appears all at once, is readable by node_exporter, and nothing is left beside it."""
    path = tmp_path / "collector.prom"
    path.write_text("old")
    metrics = Metrics()
    metrics.schema.labels("0001").set(1)
    before = path.open()

    metrics.write(path)

    with before:
        assert before.read() == "old"
    assert 'collector_schema_info{revision="0001"} 1.0' in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


async def test_loop_lag_is_seen():
    """A loop that was blocked is late by that long."""
    metrics = Metrics()
    watching = asyncio.create_task(metrics.watch_loop())
    await asyncio.sleep(0.06)
    time.sleep(0.2)  # noqa: ASYNC251 - what the monitor is there to see
    await asyncio.sleep(0.06)
    watching.cancel()

    assert 0.1 < of(metrics, "loop_lag_max_seconds") < 100  # seconds, not milliseconds
    assert of(metrics, "loop_lag_seconds_count") >= 2

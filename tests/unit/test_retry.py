"""When an attempt is repeated, and how long that waits."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.jdcloud.protocol import Reply
from collector.models import Outcome
from collector.retry import delay, should_retry


def longest(low: float, high: float) -> float:
    assert low == 0.0
    return high


@pytest.mark.parametrize(
    ("attempt", "most"),
    [(1, 0.25), (2, 0.5), (3, 1.0), (4, 2.0), (7, 16.0), (8, 20.0), (9, 20.0), (10**9, 20.0)],
)
def test_the_wait_doubles_up_to_its_bound(attempt: int, most: float) -> None:
    """The draw is from 0 to a quarter of a second, doubled for each attempt, at most 20 s."""
    assert delay(attempt, retry_after_s=None, uniform=longest) == most


@given(
    attempt=st.integers(1, 50),
    seed=st.integers(),
    retry_after=st.none() | st.floats(0, 60),
)
def test_never_sooner_than_the_server_asked(
    attempt: int, seed: int, retry_after: float | None
) -> None:
    """Retry-After is a lower bound, 0 included; without a longer one the jitter stays as drawn."""
    drawn = delay(attempt, retry_after_s=None, uniform=random.Random(seed).uniform)

    found = delay(attempt, retry_after_s=retry_after, uniform=random.Random(seed).uniform)

    assert found == max(drawn, retry_after or 0.0)
    assert 0.0 <= found <= 60.0


@pytest.mark.parametrize(
    ("retryable", "attempt", "retried"),
    [(True, 1, True), (True, 4, True), (True, 5, False), (True, 6, False), (False, 1, False)],
)
def test_should_retry(retryable: bool, attempt: int, retried: bool) -> None:
    """Only what can heal is repeated, and only until the attempts are used up."""
    assert should_retry(Reply(Outcome.TIMEOUT, retryable=retryable), attempt, 5) is retried

"""Whether and when an attempt is repeated: full jitter, as the public contract fixes it. Pure."""

from collections.abc import Callable
from typing import Final

from collector.jdcloud.protocol import Reply

__all__ = ["BASE_S", "MAX_BACKOFF_S", "delay", "should_retry"]

BASE_S: Final = 0.25
"""The longest wait before the first retry (seconds)."""
MAX_BACKOFF_S: Final = 20.0
"""The longest wait of our own; a server may ask for more (seconds)."""

_MAX_DOUBLINGS = 16  # far past MAX_BACKOFF_S, and safe to raise 2 to


def delay(
    attempt: int, *, retry_after_s: float | None, uniform: Callable[[float, float], float]
) -> float:
    """Seconds to wait after an attempt that failed, never less than the server asked for.

    `attempt` is how many were made: after the first, it is drawn from 0 to BASE_S.
    """
    doublings = min(attempt - 1, _MAX_DOUBLINGS)
    jitter = uniform(0.0, min(MAX_BACKOFF_S, BASE_S * 2**doublings))
    return max(jitter, retry_after_s or 0.0)


def should_retry(reply: Reply, attempt: int, max_attempts: int) -> bool:
    """Whether the reply can heal and an attempt is left; `attempt` counts those made."""
    return reply.retryable and attempt < max_attempts

"""Signals before there is an event loop that drains, as while modules or ids are read."""

import signal
from typing import Final

__all__ = ["install", "signals"]

signals: Final[list[int]] = []
"""What came so far: Python throws away what is raised in a callback of its own."""


def install() -> None:
    """Let SIGTERM and SIGINT interrupt; one that is ignored, as in the background, stays so."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, _: object) -> None:
    signals.append(number)
    raise KeyboardInterrupt(number)

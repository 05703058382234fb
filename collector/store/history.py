"""What one result does to an image and its versions: the rules of history, without a database.

A version ends only when other content was seen or when describeImage itself answered `not_found`;
a failure to read changes neither state nor version.
"""

from typing import Any, NamedTuple

from collector.models import Outcome

__all__ = ["Change", "State", "follow"]


class State(NamedTuple):
    """An image as the database has it; times in the driver's own form, which compare in order.

    First the columns of `images` of the same names, then what is read of the open versions.

    Attributes:
        fingerprint: of the open version; None when there is none.
        members: fingerprint of the open list of members; None when there is none.
    """

    state: str
    first_seen_at: Any = None
    last_seen_at: Any = None
    last_checked_at: Any = None
    gone_at: Any = None
    last_attempt_at: Any = None
    last_outcome: str | None = None
    failing_since: Any = None
    fingerprint: str | None = None
    members: str | None = None


class Change(NamedTuple):
    """What to write: the image's new state, and which versions begin and end.

    Attributes:
        confirmed_at: the last time the version that ends was seen.
        stale: the answer is older than what is known: it is an observation only.
    """

    state: State
    opens: bool = False
    closes: bool = False
    opens_members: bool = False
    closes_members: bool = False
    confirmed_at: Any = None
    stale: bool = False


def follow(
    state: State,
    outcome: Outcome,
    at: Any,
    fingerprint: str | None = None,
    members: str | None = None,
) -> Change:
    """Apply one outcome that was observed at `at`, in the same form as the state's times.

    `fingerprint` is that of the content, when the outcome is `present`; `members` that of the list
    of members, when it was read.
    """
    if state.last_checked_at is not None and at <= state.last_checked_at:
        return Change(state, stale=True)
    # A later attempt may be known already, when two runs share an image: then it failed, or this
    # answer were stale, and it stays the last one.
    late = state.last_attempt_at is not None and at < state.last_attempt_at
    since = state.failing_since
    if not outcome.is_reading:
        since = at if since is None else min(at, since)
    elif not late:
        since = None
    state = state._replace(failing_since=since)
    if not late:
        state = state._replace(last_attempt_at=at, last_outcome=outcome.value)
    if not outcome.is_reading:
        return Change(state)
    if outcome is Outcome.NOT_FOUND:
        gone = state.state != "unknown"
        after = state._replace(
            state="gone" if gone else "unknown",
            last_checked_at=at,
            gone_at=(state.gone_at or at) if gone else None,
            fingerprint=None,
            members=None,
        )
        return Change(
            after,
            closes=state.fingerprint is not None,
            closes_members=state.members is not None,
            confirmed_at=state.last_seen_at,
        )
    changed = fingerprint != state.fingerprint
    members_changed = members is not None and members != state.members
    after = state._replace(
        state="present",
        first_seen_at=at if state.first_seen_at is None else state.first_seen_at,
        last_seen_at=at,
        last_checked_at=at,
        gone_at=None,
        fingerprint=fingerprint,
        members=members if members_changed else state.members,
    )
    return Change(
        after,
        opens=changed,
        closes=changed and state.fingerprint is not None,
        opens_members=members_changed,
        closes_members=members_changed and state.members is not None,
        confirmed_at=state.last_seen_at,
    )

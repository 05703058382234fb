"""What an outcome does to an image: examples of each rule, then random lives of an image."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.models import Outcome
from collector.store.history import Change, State, follow

NEW = State("unknown")
FAILURES = tuple(outcome for outcome in Outcome if not outcome.is_reading)


def seen(*contents: str | None) -> State:
    """The state after readings at 1, 2, …: content, or None for a 404."""
    state = NEW
    for at, content in enumerate(contents, 1):
        state = follow(state, outcome_of(content), at, content).state
    return state


def outcome_of(content: str | None) -> Outcome:
    return Outcome.NOT_FOUND if content is None else Outcome.PRESENT


def test_the_first_sight_opens_a_version() -> None:
    """An unknown image that is present begins its history there."""
    change = follow(NEW, Outcome.PRESENT, 5, "a")
    assert (change.opens, change.closes) == (True, False)
    state = change.state
    assert (state.state, state.first_seen_at, state.last_seen_at) == ("present", 5, 5)
    assert (state.last_checked_at, state.gone_at, state.fingerprint) == (5, None, "a")


def test_the_same_content_only_confirms() -> None:
    """Unchanged content opens and closes nothing; the first sight stays."""
    change = follow(seen("a"), Outcome.PRESENT, 7, "a")
    assert (change.opens, change.closes) == (False, False)
    assert (change.state.first_seen_at, change.state.last_seen_at) == (1, 7)


def test_other_content_is_a_new_version() -> None:
    """A change closes the open version, last confirmed when it was last seen, and opens one."""
    change = follow(seen("a", "a"), Outcome.PRESENT, 7, "b")
    assert (change.opens, change.closes, change.confirmed_at) == (True, True, 2)
    assert (change.state.state, change.state.fingerprint) == ("present", "b")


@pytest.mark.parametrize("content", ["a", "b", None])
def test_every_attempt_is_noted(content: str | None) -> None:
    """When an image was last asked for, and what became of it."""
    state = follow(seen("a"), outcome_of(content), 7, content).state
    assert (state.last_attempt_at, state.last_outcome) == (7, outcome_of(content).value)


def test_a_404_makes_a_seen_image_gone() -> None:
    """It closes the version, keeps the last sight, and is dated by the first 404."""
    change = follow(seen("a"), Outcome.NOT_FOUND, 7)
    assert (change.opens, change.closes, change.confirmed_at) == (False, True, 1)
    state = change.state
    assert (state.state, state.gone_at, state.last_seen_at) == ("gone", 7, 1)
    assert (state.last_checked_at, state.fingerprint) == (7, None)
    again = follow(state, Outcome.NOT_FOUND, 9)
    assert (again.closes, again.opens) == (False, False)
    assert (again.state.gone_at, again.state.last_checked_at) == (7, 9)


def test_a_404_leaves_an_unseen_image_unknown() -> None:
    """What was never present cannot be gone, however often it is not found."""
    for state in (follow(NEW, Outcome.NOT_FOUND, 5).state, seen(None, None)):
        assert (state.state, state.gone_at, state.first_seen_at) == ("unknown", None, None)


@pytest.mark.parametrize("content", ["a", "b"])
def test_a_returned_image_begins_a_new_version(content: str) -> None:
    """Even with its old content: the absence between stays visible."""
    change = follow(seen("a", None), Outcome.PRESENT, 7, content)
    assert (change.opens, change.closes) == (True, False)
    state = change.state
    assert (state.state, state.gone_at, state.first_seen_at) == ("present", None, 1)


@pytest.mark.parametrize("outcome", FAILURES)
@pytest.mark.parametrize("state", [NEW, seen("a"), seen("a", None)])
def test_a_failure_changes_what_is_tried_and_nothing_else(state: State, outcome: Outcome) -> None:
    """State, version, and both dates of reading stay; since when it fails is kept."""
    first = follow(state, outcome, 7)
    second = follow(first.state, outcome, 9)
    for change, at in ((first, 7), (second, 9)):
        assert (change.opens, change.closes, change.stale) == (False, False, False)
        tried = {"last_attempt_at": at, "last_outcome": outcome.value, "failing_since": 7}
        assert change.state == state._replace(**tried)
    assert follow(second.state, Outcome.PRESENT, 11, "a").state.failing_since is None
    assert follow(second.state, Outcome.NOT_FOUND, 11).state.failing_since is None


@pytest.mark.parametrize("outcome", Outcome)
def test_a_later_failure_stays_the_last_attempt(outcome: Outcome) -> None:
    """An answer that two runs bring out of order hides no failure that was after it."""
    failed = follow(seen("a"), Outcome.TIMEOUT, 7).state
    state = follow(failed, outcome, 5, "b" if outcome is Outcome.PRESENT else None).state
    since = 7 if outcome.is_reading else 5
    assert (state.last_attempt_at, state.last_outcome) == (7, Outcome.TIMEOUT.value)
    assert (state.failing_since, state.last_checked_at) == (since, 5 if outcome.is_reading else 1)


def test_of_one_moment_the_reading_counts() -> None:
    """Whichever of two runs tells its answer first, what failed in the same moment is past."""
    failed, read = (Outcome.TIMEOUT, 7, None), (Outcome.PRESENT, 7, "b")
    states = []
    for order in ((failed, read), (read, failed)):
        state = seen("a")
        for answer in order:
            state = follow(state, *answer).state
        states.append(state)
    assert states == [follow(seen("a"), *read).state] * 2


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("at", [1, 2])
def test_an_old_answer_is_an_observation_only(outcome: Outcome, at: int) -> None:
    """Nothing that is not newer than the last reading changes anything."""
    state = seen("a", "b")
    assert follow(state, outcome, at, "c") == Change(state, stale=True)


def test_members_have_a_history_of_their_own() -> None:
    """Their list changes without the image, is kept when it was not read, and ends with a 404."""
    first = follow(NEW, Outcome.PRESENT, 1, "a", "m")
    assert (first.opens_members, first.closes_members) == (True, False)
    other = follow(first.state, Outcome.PRESENT, 2, "a", "n")
    assert (other.opens, other.opens_members, other.closes_members) == (False, True, True)
    unread = follow(other.state, Outcome.PRESENT, 3, "b", None)
    assert (unread.opens_members, unread.closes_members) == (False, False)
    assert unread.state.members == "n"
    gone = follow(unread.state, Outcome.NOT_FOUND, 4)
    assert (gone.closes_members, gone.state.members) == (True, None)
    back = follow(gone.state, Outcome.PRESENT, 5, "b", "n")
    assert (back.opens_members, back.closes_members) == (True, False)


@dataclass
class Life:
    """An image's row and its versions, as the writer would keep them."""

    state: State = NEW
    versions: list[list[object]] = field(default_factory=list)  # from, to, confirmed, content

    def hear(self, outcome: Outcome, at: int, content: str | None) -> Change:
        change = follow(self.state, outcome, at, content)
        if change.closes:
            self.versions[-1][1:3] = [at, change.confirmed_at]
        if change.opens:
            self.versions.append([at, None, None, content])
        self.state = change.state
        return change


def check_periods(life: Life, absences: set[int]) -> None:
    for (start, end, confirmed, content), after in zip(
        life.versions, [*life.versions[1:], None], strict=False
    ):
        if end is None:
            assert after is None
            assert life.state.state == "present"
            assert life.state.fingerprint == content
            continue
        assert start <= confirmed < end
        if after is not None:
            assert end <= after[0]
        if after is None or end < after[0]:
            assert end in absences
        elif end not in absences:
            assert after[3] != content


EVENT = st.tuples(st.sampled_from(Outcome), st.integers(-3, 3), st.sampled_from(["a", "b", "c"]))
"""An outcome, its distance to the one before in time, and the content when there is one."""


@given(st.lists(EVENT, max_size=60))
def test_histories_have_no_overlap_and_only_explained_holes(
    events: list[tuple[Outcome, int, str]],
) -> None:
    """Over random lives: versions follow each other; a hole is an absence that a 404 proved."""
    life, now = Life(), 0
    absences: set[int] = set()
    readings: list[tuple[int, str | None]] = []
    for outcome, step, content in events:
        now += step
        before = life.state
        change = life.hear(outcome, now, content if outcome is Outcome.PRESENT else None)
        if change.stale or not outcome.is_reading:
            kept = (before.state, before.fingerprint, before.last_seen_at, before.last_checked_at)
            after = life.state
            assert kept == (
                *(after.state, after.fingerprint, after.last_seen_at),
                after.last_checked_at,
            )
            assert (change.opens, change.closes) == (False, False)
            continue
        readings.append((now, content if outcome is Outcome.PRESENT else None))
        if outcome is Outcome.NOT_FOUND:
            absences.add(now)

    check_periods(life, absences)
    # What was read last is what the history says, at every time between two readings.
    for at, content in readings:
        valid = [v[3] for v in life.versions if v[0] <= at and (v[1] is None or at < v[1])]
        assert valid == ([] if content is None else [content])
    if readings:
        at, content = readings[-1]
        assert life.state.last_checked_at == at
        assert (life.state.state == "present") == (content is not None)
        assert (life.state.gone_at is not None) == (life.state.state == "gone")
    assert (life.state.state == "unknown") == (not life.versions)

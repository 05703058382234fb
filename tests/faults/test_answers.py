"""Every fault of an answer at every call: a stated outcome, nothing falsely gone, then healed."""

import json

import pytest

from collector.simulator.faults import BODIES, FAULTS
from tests.faults.cells import ANSWERS, CALLS
from tests.faults.world import HIT, IDS, REGION, canonical, exact, rest, strike

TIMED = {"hang": 3.0, "slow_loris": 3.0}
"""Faults that only a time-out ends, and the time-out (seconds)."""

READ = {"present", "not_found"}


def test_every_fault_of_the_simulator_is_in_the_matrix():
    """A fault that is added there must get its stated results here."""
    assert set(ANSWERS) == set(FAULTS)
    assert all(tuple(cells) == CALLS for cells in ANSWERS.values())


def spoiled(fault, truth):
    """What a describeImage answer says of an image after the fault changed its body."""
    body = json.dumps({"requestId": "r", "result": {"image": truth}}, separators=(",", ":"))
    body = BODIES[fault](body.encode()) if fault in BODIES else body.encode()
    return json.loads(body)["result"]["image"]


def configure(place, fault, call):
    place.target = (
        f'region = "{REGION}"\ndiscover = ["private"]' if call == "listing" else (place.target)
    )
    place.configure(
        place.target,
        fetch="batch" if call == "batch" else "single",
        members=call == "members",
        max_attempts=2,
        adaptive=False,  # after a refusal the rate would be found again in half a minute
        timeout=TIMED.get(fault, 10.0),
    )


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", ANSWERS)
def test_a_fault_of_an_answer(place, fault, call):
    """Its outcome is the stated one; what was not read is kept; the next run makes it whole."""
    cell = ANSWERS[fault][call]
    configure(place, fault, call)
    # Behind a fault that heals nothing, a deletion cannot be told from a failure.
    struck = HIT if cell.code or call != "single" else HIT[:2]
    strike(place.simulator, fault, call, struck, slow_s=0.3)
    done = place.collect()
    found = place.check()
    rest(place.simulator)

    assert done.code == cell.code, done
    assert "Traceback" not in done.err
    for image_id in IDS:
        image = found[image_id]
        if image.outcome in READ:
            read = fault in BODIES and image_id in HIT and call == "single"
            truth = place.simulator.image(REGION, image_id)
            if truth is None:
                assert (image.state, image.payload) == ("gone", None)
            elif read or image.payload != canonical(truth):
                assert json.loads(image.payload) == spoiled(fault, truth)
            assert image.checked > place.before[image_id].checked
        else:
            kept = (image.state, image.payload, image.checked)
            assert kept == place.before[image_id][:3], image_id
    outcomes = {image_id: found[image_id].outcome for image_id in IDS}
    members = {image_id: found[image_id].members for image_id in IDS}
    judge(cell, fault, call, outcomes, members)
    if call == "listing":
        (failed,) = place.column("SELECT listings_failed FROM runs ORDER BY id DESC LIMIT 1")
        assert failed == (cell.outcome == "failed")

    if call in ("batch", "members"):
        return  # healed as after the same fault of another call
    assert place.collect().code == 0
    exact(place.simulator, place.check())


def judge(cell, fault, call, outcomes, members):
    """The observations are what the matrix states."""
    others = {outcome for image_id, outcome in outcomes.items() if image_id not in HIT}
    hit = {outcomes[image_id] for image_id in HIT}
    shared = {members[image_id] for image_id in HIT if outcomes[image_id] == "present"}
    if fault == "401":
        assert hit | others <= {"denied", "not_attempted", *READ}
        expected = {"single": hit, "batch": hit, "listing": {"denied"}, "members": shared}
        assert "denied" in expected[call]
    elif call == "single":
        assert others == READ
        assert hit == ({cell.outcome} if cell.code else READ)
    elif call == "batch":
        assert hit | others == ({cell.outcome} if cell.code else READ)
    else:
        assert hit | others == READ
        assert shared == ({cell.outcome} if call == "members" else {None})

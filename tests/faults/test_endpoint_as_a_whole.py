"""What befalls an endpoint as a whole: it cannot be reached, trusted, or used any more."""

import socket
import ssl
from contextlib import contextmanager
from pathlib import Path

import pytest

from collector.simulator.faults import Faults
from tests.faults.cells import ENDPOINT
from tests.faults.world import IDS, REGION, exact, rest, world

PEM = Path(__file__).parent.parent / "data" / "tls" / "localhost.pem"
EAST = "cn-east-1"
MORE = [f"img-more-{number:02}" for number in range(30)]
"""Enough images for a lane to be given up."""


def target(ids, region=REGION):
    listed = ", ".join(f'"{one}"' for one in ids)
    return f'region = "{region}"\nimages = [{listed}]'


@contextmanager
def tls():
    """The simulator behind a certificate for `localhost` that nobody signed but itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    with world(tls=context) as simulator:
        yield simulator


def outcomes(place):
    return dict(place.sql("SELECT image_id, outcome FROM observations ORDER BY run_id"))


def kept(place):
    """Everything known is as it was."""
    found = place.check()
    assert {one: found[one][:3] for one in IDS} == {one: place.before[one][:3] for one in IDS}


def collect(place, fault, *words, env=None, **api):
    """A run that meets the fault."""
    cell = ENDPOINT[fault]
    place.configure(*api.pop("targets", [target(IDS)]), **{"max_attempts": 2} | api)
    done = place.collect(*words, env=env)
    assert done.code == cell.code, done
    assert "Traceback" not in done.err
    return cell


def healed(place):
    """With the fault gone the next run is whole."""
    rest(place.simulator)
    place.endpoint = place.simulator.url
    place.configure(target(IDS))
    assert place.collect().code == 0
    exact(place.simulator, place.check())


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_connection_refused(place):
    """Twenty items in a row without any answer, and the lane is given up."""
    place.endpoint = f"http://127.0.0.1:{closed_port()}"
    cell = collect(
        place, "connection refused", targets=[target([*IDS, *MORE])], concurrency=4, max_attempts=1
    )
    found = list(outcomes(place).values())
    assert set(found) == {cell.outcome, "not_attempted"}
    assert 20 <= found.count(cell.outcome) <= 23
    kept(place)
    healed(place)


def test_a_name_that_does_not_resolve(place):
    """RFC 6761 promises that `.invalid` never does."""
    place.endpoint = "https://vm.jdcloud-api.invalid"
    cell = collect(place, "name does not resolve")
    assert set(outcomes(place).values()) == {cell.outcome}
    kept(place)
    healed(place)


@pytest.mark.parametrize(
    ("fault", "host", "trusted"),
    [
        ("certificate self-signed", "localhost", False),
        ("certificate of another name", "127.0.0.1", True),
    ],
)
def test_a_certificate_that_proves_nothing(place, fault, host, trusted):
    """One attempt each, for it will not heal; not a byte of a request is sent."""
    with tls() as other:
        place.endpoint = other.url.replace("127.0.0.1", host)
        env = {"SSL_CERT_FILE": str(PEM)} if trusted else {}
        cell = collect(place, fault, env=env)
        assert not other.requests
    attempts = place.sql("SELECT DISTINCT outcome, attempts FROM observations WHERE run_id = 2")
    assert attempts == [(cell.outcome, 1)]
    kept(place)
    healed(place)


def test_plain_text_where_tls_is_expected(place):
    """A proxy that ends TLS too early."""
    place.endpoint = place.simulator.url.replace("http:", "https:")
    cell = collect(place, "plain http from a TLS port")
    assert set(outcomes(place).values()) == {cell.outcome}
    kept(place)
    healed(place)


@pytest.mark.parametrize(
    ("fault", "spec"), [("all down: reset", "reset=1"), ("all down: 503", "503=1")]
)
def test_everything_down(place, fault, spec):
    """No connection at all is 69; an endpoint that answers, however badly, was reached."""
    place.simulator.faults = Faults.parse(spec)
    cell = collect(place, fault)
    assert set(outcomes(place).values()) == {cell.outcome}
    assert place.column("SELECT status FROM runs WHERE id = 2") == ["failed"]
    kept(place)
    healed(place)


def test_one_region_down(place):
    """The other one is whole, and does not wait for it."""
    place.simulator.regions = (REGION, EAST)
    place.simulator.faults = Faults.parse(f"region:{EAST}=down")
    cell = collect(
        place,
        "one region down",
        targets=[target(IDS), target(MORE, EAST)],
        max_attempts=1,
        concurrency=4,
    )
    found = list(outcomes(place).items())
    assert {outcome for one, outcome in found if one in IDS} == {"present", "not_found"}
    east = [outcome for one, outcome in found if one in MORE]
    assert set(east) == {cell.outcome, "not_attempted"}
    assert 20 <= east.count(cell.outcome) <= 23
    assert place.column("SELECT state FROM images WHERE region = ?", EAST) == ["unknown"] * 30
    exact(place.simulator, place.check())
    healed(place)


def test_a_storm_of_refusals_calms(tmp_path, place):
    """An endpoint that allows less than was configured is found out, and nothing is lost."""
    with world(rate_limit=20) as strict:
        for one in MORE:
            strict.add(REGION, one)
        place.endpoint = strict.url
        collect(
            place,
            "429 storm: the limit is half of ours",
            targets=[target(MORE)],
            rate_limit=40,
            max_attempts=5,
        )
        throttled, retries = place.sql("SELECT throttled, retries FROM runs WHERE id = 2")[0]
    assert {outcomes(place)[one] for one in MORE} == {"present"}
    assert 0 < throttled == retries
    place.check()


def test_a_storm_of_refusals_that_does_not_calm(place):
    """Every attempt is made, spaced, and nothing is concluded."""
    place.simulator.faults = Faults.parse("429=1")
    cell = collect(place, "429 storm: nothing is let through", adaptive=False)
    assert set(outcomes(place).values()) == {cell.outcome}
    assert place.simulator.requests["describeImage"] == 2 * len(IDS)
    kept(place)
    healed(place)


def test_a_clock_that_is_wrong(place):
    """The signature's date is refused; the first answer ends the account's work."""
    place.simulator.faults = Faults.parse("clock_skew=3600")
    cell = collect(place, "clock an hour wrong", concurrency=1)
    found = list(outcomes(place).values())
    assert (found.count(cell.outcome), found.count("not_attempted")) == (1, len(IDS) - 1)
    assert place.column("SELECT status FROM runs WHERE id = 2") == ["failed"]
    kept(place)
    healed(place)


@pytest.mark.parametrize(("after", "fault"), [(3, "in mid-run"), (0, "before")])
def test_a_key_that_expires(place, after, fault):
    """What was read is kept, what was not asked is not attempted, and a new key goes on."""
    simulator, asked = place.simulator, []

    async def expire(request):
        asked.append(request.raw_path)
        if len(asked) > after:
            simulator.credentials.clear()

    simulator.intercept = expire
    cell = collect(place, f"key expired {fault}", concurrency=1)
    found = [outcomes(place)[one] for one in IDS]
    assert found[after] == cell.outcome
    assert set(found[after + 1 :]) == {"not_attempted"}
    assert set(found[:after]) <= {"present", "not_found"}
    images = place.check()
    for one in IDS[after:]:
        assert images[one][:3] == place.before[one][:3]
    simulator.credentials["simulator"] = "simulator"
    healed(place)

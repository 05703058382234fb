"""Three workers of one fleet, killed, frozen, stopped and cut off while they work."""

import json
import os
from functools import partial

import pytest

from tests.support.broker import ADDRESS
from tests.support.fleet import ACCOUNT_RATE, LANE_RATE, Fleet, disturb


@pytest.fixture
def _broker():
    import socket

    try:
        socket.create_connection(ADDRESS, timeout=2).close()
    except OSError as error:
        if os.environ.get("COLLECTOR_REQUIRE_SERVICES") == "1":
            raise
        pytest.skip(f"RabbitMQ: {error}")


@pytest.mark.usefixtures("_broker")
@pytest.mark.timeout(240)
async def test_fleet(tmp_path, new_database):
    """No rate is ever exceeded, no item lost, none left over, whatever happens to the workers.

    Leases last 6 s instead of 15, so that whoever is frozen loses them sooner.
    """
    async with Fleet(tmp_path, new_database("postgresql"), ids=90, lease_s=6.0) as fleet:
        await disturb(
            fleet,
            [
                fleet.kill,
                partial(fleet.cut, fleet.broker_proxy, 2, "broker"),
                fleet.terminate,
                partial(fleet.freeze, 7),
                partial(fleet.cut, fleet.database_proxy, 3, "database"),
            ],
            pause_s=1,
        )
        await fleet.finish(120)
        found = await fleet.report()
        (tmp_path / "fleet.json").write_text(json.dumps(found))
        assert found["read"] == found["items"]
        assert found["left_in_queue"] == 0
        assert found["runs_not_sealed"] == 0
        assert found["worst_0.9_s_of_a_lane"] <= LANE_RATE
        assert found["worst_0.9_s_of_an_account"] <= ACCOUNT_RATE
        assert found["requests"] < found["items"] * 2

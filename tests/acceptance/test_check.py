"""`collector check`: each thing that may be wrong, with its line and its exit code."""

import json
import ssl

import pytest

from collector import config
from collector.jdcloud.credentials import Credentials
from collector.preflight import _accounts
from collector.store.engine import Database
from collector.store.leases import Leases, holders
from tests.support.service import KEYS, configuration, process, target, until
from tests.support.simulator import SimulatorOptions, running


async def check(path, *words, env=KEYS):
    """Exit code and what was found: check → (status, message)."""
    async with process("check", "--json", "--config", str(path), *words, env=env) as command:
        output, errors = await command.communicate()
    assert not errors, errors
    findings = json.loads(output)["checks"]
    return command.returncode, {one["check"]: (one["status"], one["message"]) for one in findings}


async def test_all_is_well(tmp_path, database_url):
    """Everything there: exit 0, one small signed call, and the lease given back."""
    async with running(SimulatorOptions()) as api:
        path = configuration(tmp_path, api.url, database_url, targets=target())
        code, found = await check(path)

        assert code == 0
        assert {status for status, _ in found.values()} == {"ok"}
        assert api.requests.total() == 1
    async with Database(database_url) as database:
        assert await Leases(database, {"default": "other"}).take("default") == 0.0


async def test_absent_database_is_not_created(tmp_path):
    """A database that the first run will create is well, stays absent, and the call is made."""
    async with running(SimulatorOptions()) as api:
        file = tmp_path / "new.db"
        path = configuration(tmp_path, api.url, f"sqlite:///{file}", targets=target())
        code, found = await check(path)

        assert code == 0
        assert "creates it" in found["database"][1]
        assert found["account default"] == ("ok", "credentials accepted")
        assert not file.exists()


async def test_offline_calls_nobody(tmp_path, sqlite_url):
    """--offline needs no network."""
    path = configuration(tmp_path, "http://127.0.0.1:1", sqlite_url, targets=target())
    code, found = await check(path, "--offline")

    assert code == 0
    assert set(found) == {"configuration", "credentials", "database"}


async def test_held_account_is_not_called(tmp_path, sqlite_url):
    """An account that another process serves is reported with its holder, and not called."""
    from collector.jdcloud.credentials import load

    name = load("env", base=tmp_path, env=KEYS).key_id
    async with running(SimulatorOptions()) as api, Database(sqlite_url) as database:
        await Leases(database, {"default": name}).take_all()
        path = configuration(tmp_path, api.url, sqlite_url, targets=target())
        code, found = await check(path)

        assert code == 0
        assert "held by" in found["account default"][1]
        assert "not called" in found["account default"][1]
        assert api.requests.total() == 0


@pytest.mark.parametrize(
    ("faults", "secret", "code", "check_name", "status"),
    [
        ("", "wrong", 77, "account default", "fail"),
        ("403=1", "simulator", 0, "account default", "warn"),
        ("429=1", "simulator", 0, "account default", "warn"),
        ("500=1", "simulator", 3, "account default", "fail"),
        ("reset=1", "simulator", 69, "account default", "fail"),
        ("clock_skew=300", "simulator", 0, "clock, account default", "warn"),
        ("clock_skew=2000", "simulator", 77, "clock, account default", "fail"),
    ],
)
async def test_what_the_endpoint_says(
    tmp_path, sqlite_url, faults, secret, code, check_name, status
):
    """Refused is 77, unreachable 69, broken 3; not permitted and throttled are warnings."""
    async with running(SimulatorOptions(faults=faults)) as api:
        path = configuration(tmp_path, api.url, sqlite_url, targets=target())
        found_code, found = await check(path, env=KEYS | {"JDCLOUD_SECRET_KEY": secret})

        assert (found_code, found[check_name][0]) == (code, status), found


async def test_what_cannot_be_reached(tmp_path, sqlite_url):
    """A database out of reach is 69 and holds no lease, so nothing is called."""
    url = "postgresql://nobody@127.0.0.1:1/none"
    path = configuration(tmp_path, "http://127.0.0.1:1", url, targets=target())
    code, found = await check(path)

    assert code == 69
    assert found["database"][0] == "fail"
    assert found["account"] == ("warn", "not called: no database holds the leases")


async def test_unreachable_broker(tmp_path, sqlite_url):
    """A broker out of reach is 69, and its password is not shown."""
    queue = "amqp://guest:hidden@127.0.0.1:1/"
    async with running(SimulatorOptions()) as api:
        path = configuration(tmp_path, api.url, sqlite_url, targets=target(), queue=queue)
        code, found = await check(path)

    assert code == 69
    assert found["queue"][0] == "fail"
    assert "hidden" not in found["queue"][1]


async def test_configuration_comes_first(tmp_path, sqlite_url):
    """No target, or a wrong schema: exit 78."""
    path = configuration(tmp_path, "http://127.0.0.1:1", sqlite_url)
    code, found = await check(path, "--offline")
    assert code == 78
    assert found["configuration"][0] == "fail"

    async with Database(sqlite_url) as database, database.write() as connection:
        await connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    path = configuration(tmp_path, "http://127.0.0.1:1", sqlite_url, targets=target())
    code, found = await check(path, "--offline")
    assert code == 78
    assert "9999" in found["database"][1]


async def test_files_that_name_no_image_are_the_configurations_mistake(tmp_path, sqlite_url):
    """As `run` would say: exit 78."""
    (tmp_path / "ids.txt").write_text("# none yet\n")
    files = target().replace('discover = ["private"]', 'ids_file = "ids.txt"')
    path = configuration(tmp_path, "http://127.0.0.1:1", sqlite_url, targets=files)
    code, found = await check(path, "--offline")

    assert code == 78
    assert found["configuration"][0] == "fail"


async def test_stopped_it_gives_the_lease_back(tmp_path, sqlite_url):
    """SIGTERM while the endpoint keeps it waiting: exit 143, and nobody waits for the account."""
    async with running(SimulatorOptions(faults="hang=1")) as api:
        path = configuration(tmp_path, api.url, sqlite_url, targets=target())
        async with process("check", "--config", str(path)) as command:
            await until(api.requests.total)
            command.terminate()
            output, errors = await command.communicate()

    assert (command.returncode, output, errors) == (143, b"", b"")
    async with Database(sqlite_url) as database:
        assert await holders(database) == []


async def test_certificates_are_read_once(tmp_path, sqlite_url, monkeypatch):
    """Not for each of hundreds of accounts: it takes longer than the call."""
    made, make = [], ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lambda: made.append(make()) or made[-1])
    names = [f"team-{n}" for n in range(20)]
    keys = {name: Credentials(f"key-{name}", "secret") for name in names}
    pairs = {key.access_key: key.secret_key for key in keys.values()}
    async with running(SimulatorOptions(credentials=pairs)) as api:
        accounts = dict.fromkeys(names, "env")
        path = configuration(tmp_path, api.url, sqlite_url, accounts=accounts)
        found = await _accounts(config.load(path, env={}), keys, None)

    assert {one.status for one in found} == {"ok"}
    assert len(made) == 1


async def test_lines(tmp_path, sqlite_url):
    """Without --json: a line each, ok, warn or fail."""
    path = configuration(tmp_path, "http://127.0.0.1:1", sqlite_url, targets=target())
    async with process("check", "--offline", "--config", str(path)) as command:
        output, _ = await command.communicate()

    assert [line.split()[0] for line in output.decode().splitlines()] == ["ok"] * 3

"""What `config/` ships works: units, cron, alert rules, dashboard, grants, policy."""

import asyncio
import gzip
import json
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from sqlalchemy import make_url

from collector.cli.main import COMMANDS
from collector.metrics import Metrics
from collector.models import LaneKey, Outcome
from collector.store import migrate
from collector.store.engine import Database
from tests.conftest import server
from tests.support.service import ENTRY, configuration, rows, target
from tests.support.simulator import SimulatorOptions, running

CONFIG = Path(__file__).parents[2] / "config"
UNITS = [*sorted((CONFIG / "systemd").glob("*.service")), CONFIG / "systemd/collector-run.timer"]
WORST_EXPOSURE = 1.5


def analyze(*words):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run([program, *words], capture_output=True, text=True, check=False)


@pytest.fixture
def units(tmp_path):
    """The units with a command that exists here, which `verify` asks for."""
    for unit in UNITS:
        text = unit.read_text().replace("/opt/collector/bin/collector", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    return tmp_path


def test_units_are_right(units):
    """`systemd-analyze verify` says nothing: it does so on a misspelt key, and exits 0 anyway."""
    found = analyze("verify", "--man=no", *(str(units / unit.name) for unit in UNITS))

    assert (found.stdout, found.stderr, found.returncode) == ("", "", 0)


@pytest.mark.parametrize("name", ["collector.service", "collector-run.service"])
def test_units_are_confined(units, name):
    """The exposure of what runs for long is at most 1.5."""
    found = analyze("security", "--offline=true", "--no-pager", str(units / name))
    exposure = re.search(r"exposure level for \S+: ([0-9.]+)", found.stdout)

    assert exposure is not None, found.stderr
    assert float(exposure[1]) <= WORST_EXPOSURE


@pytest.mark.parametrize("name", ["collector.service", "collector-run.service"])
def test_hardening_has_reasons(name):
    """Every group of hardening lines stands under a comment that says why."""
    text = (CONFIG / "systemd" / name).read_text()
    section = text.partition("# What it may do")[2].partition("[Install]")[0]
    _, *lines = section.strip().splitlines()
    groups = [group for group in re.split(r"(?m)^(?=#)", "\n".join(lines)) if group.strip()]

    assert len(groups) >= 10
    for group in groups:
        comment, *settings = group.strip().splitlines()
        assert comment.startswith("# ")
        assert 1 <= len(settings) <= 8


def test_units_name_the_exit_codes():
    """What a restart does not heal is not restarted; no failure: a stop, a timer's held account."""
    service = (CONFIG / "systemd/collector.service").read_text()
    run = (CONFIG / "systemd/collector-run.service").read_text()

    assert "\nRestartPreventExitStatus=77 78\n" in service
    assert "\nSuccessExitStatus=143\n" in service
    assert "\nSuccessExitStatus=75 143\n" in run


def test_failure_can_be_mailed():
    """A mail program may be set-uid (exim is), and delivers after it has returned."""
    text = (CONFIG / "systemd/collector-failed@.service").read_text()

    assert "\nUser=collector\n" in text
    assert "\nKillMode=process\n" in text
    assert not re.search(r"(?m)^(DynamicUser|NoNewPrivileges|Protect)", text)


def cron_lines():
    variables, jobs = {}, []
    for line in (CONFIG / "cron/collector").read_text().splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if name := re.match(r"([A-Z_]+)=(.*)", line):
            variables[name[1]] = name[2]
        else:
            jobs.append(line.split(maxsplit=6))
    return variables, jobs


def test_cron_file_is_a_crontab():
    """Five times, a user, and a command of this program, with nothing cron would misread."""
    _, jobs = cron_lines()

    assert [job[5] for job in jobs] == ["collector"] * len(jobs)
    for job in jobs:
        assert all(re.fullmatch(r"[0-9*/,-]+", field) for field in job[:5])
        assert "%" not in job[6]
        assert re.search(r"bin/collector (\S+)", job[6])[1] in COMMANDS


async def test_cron_job_is_silent_when_all_is_well(tmp_path, sqlite_url):
    """The job of the file, with cron's environment and no more: silent, or says what is wrong."""
    keys = tmp_path / "jd.toml"
    keys.write_text('access_key = "simulator"\nsecret_key = "simulator"\n')
    keys.chmod(0o600)
    program = tmp_path / "collector"
    program.write_text(f"#!{sys.executable}\n{ENTRY}\n")
    program.chmod(0o755)
    variables, jobs = cron_lines()
    command = jobs[0][6].replace("/opt/collector/bin/collector", str(program))
    command = command.replace("/var/lib/collector", str(tmp_path))
    async with running(SimulatorOptions(images=40)) as api:
        options = {"accounts": {"default": f"file:{keys}"}, "targets": target(), "rate_limit": 100}
        path = configuration(tmp_path, api.url, sqlite_url, **options)
        env = variables | {"COLLECTOR_CONFIG": str(path), "HOME": str(tmp_path)}

        async def job():
            process = await asyncio.create_subprocess_exec(
                variables["SHELL"],
                "-c",
                command,
                env=env,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await process.communicate()
            return process.returncode, output.decode()

        assert await job() == (0, "")
        api.credentials["simulator"] = "changed"
        code, output = await job()
    assert code == 77
    assert "sign result is not same" in output
    assert output.splitlines()[-1].startswith("collector: run 2 is failed")


def test_logrotate_empties_the_file_in_use(tmp_path):
    """Who appends to the log goes on doing so after it was copied and emptied."""
    program = shutil.which("logrotate", path="/usr/sbin:/sbin")
    if program is None:
        pytest.skip("logrotate is not installed")
    rules = tmp_path / "rules"
    text = (CONFIG / "logrotate/collector").read_text()
    text = text.replace("/var/log/collector/", f"{tmp_path}/")
    owner = f"su {tmp_path.owner()} {tmp_path.group()}"
    rules.write_text(text.replace("su collector collector", owner))
    with (tmp_path / "collector.log").open("a") as log:
        for line in ("first\n", "second\n"):
            print(line, end="", file=log, flush=True)
            words = [program, "--force", "--state", str(tmp_path / "state"), str(rules)]
            found = subprocess.run(words, capture_output=True, text=True, check=False)
            assert (found.stderr, found.returncode) == ("", 0)

    assert (tmp_path / "collector.log").read_text() == ""
    assert (tmp_path / "collector.log.1").read_text() == "second\n"
    assert gzip.decompress((tmp_path / "collector.log.2.gz").read_bytes()) == b"first\n"


def metric_names():
    """The metrics that there are, all in use."""
    metrics = Metrics()
    key = LaneKey("a", "r")
    metrics.reply(key, Outcome.THROTTLED, 2, 0.1)
    metrics.finished("run", "complete")
    metrics.lane(key, None, 1.0)
    return {
        sample.name for family in metrics.registry.collect() for sample in (*family.samples, family)
    } | {f"{family.name}_total" for family in metrics.registry.collect()}


@pytest.mark.parametrize("name", ["alerts.yml", "dashboard.json"])
def test_alerts_and_dashboard_name_real_metrics(name):
    """No rule waits for a metric that nobody writes."""
    text = (CONFIG / "prometheus" / name).read_text()
    used = set(re.findall(r"\bcollector_[a-z_]+", text))

    assert used
    assert used <= metric_names()


def test_alert_rules_and_queries_are_prometheus_own(tmp_path):
    """The rules, and what the dashboard asks, are read by Prometheus' own checker."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed")
    panels = json.loads((CONFIG / "prometheus/dashboard.json").read_text())["panels"]
    queries = [query["expr"] for panel in panels for query in panel["targets"]]
    rules = [
        {"record": f"query:{n}", "expr": re.sub(r"\$__\w+", "5m", query)}
        for n, query in enumerate(queries)
    ]
    asked = tmp_path / "dashboard.json"  # which is YAML too
    asked.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    for file in (CONFIG / "prometheus/alerts.yml", asked):
        words = [program, "check", "rules", str(file)]
        found = subprocess.run(words, capture_output=True, text=True, check=False)

        assert found.returncode == 0, found.stderr


def test_alerts_are_complete():
    """Each rule has an expression, a severity, a summary and what to do."""
    yaml = pytest.importorskip("yaml")
    (group,) = yaml.safe_load((CONFIG / "prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_dashboard_is_whole():
    """Panels have ids of their own, do not overlap, and ask something."""
    dashboard = json.loads((CONFIG / "prometheus/dashboard.json").read_text())
    taken = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken
        assert all(x < 24 for x, _ in cells)
        taken |= cells
        assert all(query["expr"] for query in panel["targets"])
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_policy_is_read_only():
    """The policy allows the calls that the program makes, and nothing else."""
    policy = json.loads((CONFIG / "iam/read-only-policy.json").read_text())
    (statement,) = policy["Statement"]
    source = (CONFIG.parent / "collector/jdcloud/protocol.py").read_text()
    calls = set(re.findall(r'Call\(\s*"(describe\w+)"', source))

    assert statement["Effect"] == "Allow"
    assert {action.removeprefix("vm:") for action in statement["Action"]} == calls


@pytest.mark.parametrize(("kind", "file"), [("postgresql", "postgresql"), ("mysql", "mariadb")])
async def test_auditor_reads_and_changes_nothing(new_database, kind, file):
    """The grants let an auditor read everything, also after an upgrade, and write nothing."""
    url = make_url(new_database(kind, migrated=False))
    administrator = server(kind, url.database)
    unique = uuid.uuid4().hex[:12]
    name, owner = f"auditor_{unique}", f"owner_{unique}"
    script = (CONFIG / f"sql/{file}-auditor.sql").read_text()
    script = script.replace("collector_auditor", name).replace("`collector`", f"`{url.database}`")
    script = re.sub(r"--.*", "", script).replace("ROLE collector ", f"ROLE {owner} ")
    owned = url
    if kind == "postgresql":  # the tables belong to an ordinary role, as in an installation
        owned = url.set(username=owner, password="its own")
        administrator(
            [
                f"CREATE ROLE {owner} LOGIN PASSWORD 'its own'",
                f"ALTER DATABASE {url.database} OWNER TO {owner}",
            ]
        )
    try:
        async with Database(owned.render_as_string(hide_password=False)) as program:
            await migrate.upgrade(program)
            administrator([part for part in script.split(";") if part.strip()])
            await migrate.downgrade(program, "base")
            await migrate.upgrade(program)
        mine = url.set(username=name, password="change me").render_as_string(hide_password=False)
        async with Database(mine, read_only=True) as auditor:
            await migrate.require_head(auditor)
            assert await rows(auditor, "SELECT count(*) FROM current_images") == [(0,)]
            assert await rows(auditor, "SELECT count(*) FROM ledger") == [(0,)]
        async with Database(mine) as auditor:
            for statement in ("DELETE FROM images", "CREATE TABLE mine (a INT)"):
                with pytest.raises(Exception, match=r"(?i)denied|read-only|permission"):
                    async with auditor.write() as connection:
                        await connection.exec_driver_sql(statement)
            if kind == "postgresql":
                forced = "SET TRANSACTION READ WRITE; DELETE FROM images"
                with pytest.raises(Exception, match="permission denied"):
                    async with auditor.write() as connection:
                        await connection.exec_driver_sql(forced)
    finally:
        if kind == "postgresql":
            administrator([f"REASSIGN OWNED BY {owner} TO CURRENT_USER"])
            for role in (owner, name):
                administrator([f"DROP OWNED BY {role}", f"DROP ROLE {role}"])
        else:
            administrator([f"DROP USER '{name}'@'%'"])


def test_alerts_point_to_what_to_do():
    """A page that an alert names has that heading."""
    guide = (CONFIG.parent / "docs/operations.md").read_text()
    headings = set(re.findall(r"(?m)^### (.+)$", guide))
    alerts = (CONFIG / "prometheus/alerts.yml").read_text()
    named = re.findall(r"docs/operations\.md, '([^']+)'", alerts)

    assert len(named) >= 4
    assert set(named) <= headings

"""What others rely on by name: options, columns, documents. The lists are written out here.

Whatever follows from the code would change with it; a name that goes missing breaks a query.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.simulator import Simulator
from tests.support.site import Site, simulated

SCALARS = (
    "name platform os_version architecture system_disk_size_gb image_source os_type status"
    " create_time size_mb description owner_pin launch_permission snapshot_id root_device_type"
    " progress offline uefi_support imported boot_mode expired_time login_name"
)
DISK = (
    "role position device_name disk_category auto_delete disk_type disk_size_gb iops throughput"
    " snapshot_id encrypted extra"
)
IDENTITY = "account region image_id"
COLUMNS = {
    "runs": "id trigger status started_at finished_at planned present not_found failed"
    " new_versions unchanged requests retries throttled listings_failed plan_digest config_digest"
    " digest tool_version",
    "observations": f"run_id {IDENTITY} outcome http_status error_code error_message request_id"
    " attempts duration_ms observed_at",
    "images": f"id {IDENTITY} state first_seen_at last_seen_at last_checked_at gone_at",
    "image_versions": "id image_pk run_id closed_run_id valid_from valid_to last_confirmed_at"
    f" fingerprint payload {SCALARS} extra",
    "disk_attachments": f"id image_version_id {DISK}",
    "schema_drift": "path json_type value first_seen_at last_seen_at seen example_image_id",
    "current_images": f"{IDENTITY} state {SCALARS} last_seen_at",
    "current_disks": f"{IDENTITY} {DISK}",
    "image_history": f"{IDENTITY} valid_from valid_to last_confirmed_at {SCALARS}",
    "disk_history": f"{IDENTITY} {DISK}",
    "run_coverage": "run_id account region planned present not_found failed coverage",
    "unread_images": f"{IDENTITY} outcome since last_seen_at",
}
READING = "--config --database"
OPTIONS = {
    "init": "--config --path",
    "check": "--config --offline --json",
    "run": "--config --image --ids-file --discover --region --account --dry-run --fresh"
    " --min-coverage --quiet --json",
    "status": f"{READING} --max-age --json",
    "serve": "--config",
    "queue add": "--config --account --ids-file",
    "queue status": "--config --json",
    "queue failed": "--config --json",
    "queue retry": "--config --all",
    "discover": "--config --region --account --source",
    "db upgrade": "--config",
    "db downgrade": "--config",
    "db status": "--config --json",
    "db sql": "--config",
    "db prune": "--config",
    "db copy": "--config --to",
    "show": f"{READING} --at --history --account --json",
    "changes": f"{READING} --since --until --json",
    "audit list": f"{READING} --json",
    "audit run": f"{READING} --rule --fail-on --json",
    "audit sql": READING,
    "export": f"{READING} --format --output",
    "report": f"{READING} --output",
    "verify": f"{READING} --expect --json",
    "simulate": "--config --port --images --rate-limit --latency --faults --seed",
    "demo": "--config --images --keep",
}


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with simulated(images=40) as simulator:
        yield simulator


@pytest.fixture
def site(tmp_path: Path, simulator: Simulator) -> Site:
    return Site(tmp_path, simulator.url)


@pytest.mark.parametrize("command", OPTIONS)
def test_options(site: Site, command: str) -> None:
    """The help of each command names them."""
    ended = site.run(*command.split(), "--help")
    assert ended.code == 0
    assert set(OPTIONS[command].split()) <= set(re.findall(r"--[a-z-]+", ended.out))


def test_columns(site: Site) -> None:
    """Tables and views have them; there may be more."""
    assert site.run("db", "upgrade").code == 0
    for table, columns in COLUMNS.items():
        found = set(site.column("SELECT name FROM pragma_table_info(?)", table))
        assert set(columns.split()) <= found, table


def test_every_document_parses(site: Site, simulator: Simulator) -> None:
    """`--json` is one document, or one a line where the help says so."""
    assert site.run("run", "--json").document["digest"]
    image = f"cn-north-1/{site.column('SELECT image_id FROM current_images')[0]}"
    commands = ["status", "check", "check --offline", "run --dry-run", f"queue add {image}"]
    commands += ["queue status", "queue retry --all", "db status", "db upgrade", "db prune"]
    commands += [f"show {image}", f"show {image} --history", "audit list", "audit run", "verify"]
    commands += ["db copy --to sqlite:///copy.db"]
    for words in commands:
        ended = site.run(*words.split(), "--json")
        assert (ended.code, bool(json.loads(ended.out))) == (0, True), words
    changes = json.loads(site.run("changes", "--json").out)
    assert isinstance(changes, list)
    assert changes
    lines = site.run("discover", "--json").out.splitlines()
    assert {json.loads(line)["image_id"] for line in lines} >= {image.partition("/")[2]}
    assert site.run("queue", "failed", "--json") == (0, "", "")


def test_an_image_that_is_named_in_every_way_is_read_once(site: Site, simulator: Simulator) -> None:
    """Twice in a list, in a file, in a listing, and in another target: one item, one call."""
    images = [simulator.image("cn-north-1", one) for one in simulator.ids("cn-north-1")]
    wanted = next(i["imageId"] for i in images if i and i["imageSource"] == "private")
    (site.directory / "ids.txt").write_bytes(f"\ufeff{wanted}\r\n# {wanted}\r\n{wanted}".encode())
    named = f'region = "cn-north-1"\nimages = ["{wanted}", "{wanted}"]'
    site.configure(named, f'{named}\nids_file = "ids.txt"\ndiscover = ["private"]')
    simulator.requests.clear()
    document = site.run("run", "--json").document
    assert site.column("SELECT count(*) FROM observations WHERE image_id = ?", wanted) == [1]
    assert simulator.requests["describeImage"] == document["planned"] == document["present"]

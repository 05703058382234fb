"""The fault matrix as data: what the program must make of each fault at each stage of its work.

The tests take their parameters from here, and `make docs` makes `docs/faults.md` of it; a test
compares the two.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

__all__ = ["ANSWERS", "CALLS", "DATABASE", "ENDPOINT", "PROCESS", "SERVICE", "Cell", "document"]


class Cell(NamedTuple):
    """The stated result of one fault at one stage.

    Attributes:
        code: the exit code of the run that meets the fault.
        outcome: what the hit items, calls or runs end as.
        note: what a reader should know besides.
    """

    code: int
    outcome: str
    note: str = ""


CALLS: Final = ("single", "batch", "listing", "members")
"""describeImage, describeImages by ids, describeImages by source, describeImageMembers."""

_OUTCOMES: Final = {
    "denied": ("403",),
    "throttled": ("429", "quota"),
    "server_error": ("500", "502", "503", "504", "no_request_id"),
    "network_error": ("reset", "disconnect"),
    "timeout": ("hang", "slow_loris"),
    "invalid_response": (
        *("400", "404", "html", "empty", "malformed", "deep", "huge", "no_image", "null_image"),
        *("wrong_id", "nan", "surrogate", "truncate", "content_length", "gzip_bomb", "redirect"),
    ),
    "present": (
        *("duplicate_keys", "big_number", "string_number", "nul", "many_disks", "close", "slow"),
    ),
}

_OF_IMAGES: Final = frozenset({"wrong_id", "nan", "surrogate", "no_image", "null_image"})
"""They spoil an image object, which describeImageMembers has none of."""

MEANING: Final[Mapping[str, str]] = {
    "400": "error 400 INVALID_ARGUMENT",
    "401": "error 401: the key is refused",
    "403": "error 403",
    "404": "a gateway's 404, which names no image",
    "429": "error 429 RATE_LIMIT, to every attempt",
    "quota": "error 429 QUOTA_EXCEEDED",
    "500": "error 500",
    "502": "error 502, a proxy's HTML",
    "503": "error 503",
    "504": "error 504",
    "no_request_id": "an error without requestId",
    "html": "HTML under status 200",
    "empty": "an empty body",
    "malformed": "JSON that is cut off",
    "deep": "100,000 levels of nesting",
    "huge": "a body of 64 MiB",
    "no_image": "a result without an image",
    "null_image": "an image that is null",
    "wrong_id": "another image's id",
    "duplicate_keys": "a key that comes twice",
    "nan": "NaN for a number",
    "big_number": "a number over 64 bits",
    "string_number": "a number sent as text",
    "surrogate": "half of a surrogate pair",
    "nul": "NUL in a name",
    "many_disks": "10,000 disks",
    "reset": "connection reset",
    "disconnect": "connection closed without an answer",
    "close": "connection closed behind an answer",
    "truncate": "half of a body",
    "content_length": "a wrong content-length",
    "hang": "no answer",
    "slow": "a late answer, in time",
    "slow_loris": "a byte now and then",
    "gzip_bomb": "a gzip bomb",
    "redirect": "a redirect to another name",
}


def _cells(fault: str, outcome: str) -> dict[str, Cell]:
    fine, undecided = outcome == "present", outcome not in ("present", "invalid_response", "denied")
    silent = outcome in ("network_error", "timeout")
    listed = fine or fault == "wrong_id"
    listed = listed and fault != "many_disks"  # eight images of 10,000 disks are over the size
    fine_members = fine or fault in _OF_IMAGES
    batch = Cell(0, "present", "" if fine else "asked singly")
    if undecided:
        batch = Cell(69 if silent else 3, outcome, "all ids of the call")
    listing = Cell(0, "listed") if listed else Cell(3, "failed", "the known are read")
    members = Cell(0, "present") if fine_members else Cell(3, outcome, "the image present")
    single = Cell(0 if fine else 3, outcome)
    return {"single": single, "batch": batch, "listing": listing, "members": members}


ANSWERS: Final[Mapping[str, Mapping[str, Cell]]] = {
    "401": {
        "single": Cell(3, "denied", "the account's others not_attempted"),
        "batch": Cell(77, "denied", "all ids of the call"),
        "listing": Cell(77, "failed", "all not_attempted"),
        "members": Cell(3, "denied", "the image present, others not_attempted"),
    },
    **{fault: _cells(fault, outcome) for outcome, faults in _OUTCOMES.items() for fault in faults},
}
"""Fault of an answer → call that it hits → result: of the image, of the list, of the members."""

ENDPOINT: Final[Mapping[str, Cell]] = {
    "connection refused": Cell(69, "network_error", "after 20 in a row not_attempted"),
    "name does not resolve": Cell(69, "network_error"),
    "certificate self-signed": Cell(69, "network_error", "one attempt each, nothing sent"),
    "certificate of another name": Cell(69, "network_error", "one attempt each, nothing sent"),
    "plain http from a TLS port": Cell(69, "network_error"),
    "all down: reset": Cell(69, "network_error"),
    "all down: 503": Cell(3, "server_error"),
    "one region down": Cell(3, "network_error", "given up after 20; the other region whole"),
    "429 storm: the limit is half of ours": Cell(0, "present", "the rate is lowered"),
    "429 storm: nothing is let through": Cell(3, "throttled"),
    "clock an hour wrong": Cell(77, "denied", "the others not_attempted"),
    "key expired in mid-run": Cell(3, "denied", "the read is kept, the others not_attempted"),
    "key expired before": Cell(77, "denied", "the others not_attempted"),
}
"""Fault of the endpoint as a whole → result."""

STAGES: Final = (
    "opening",
    "planning",
    "listing",
    "writing",
    "in a transaction",
    "finishing",
    "sealing",
)

ANEW, RESUMED, LATER, SEALED = "planned again", "resumed", "sealed by the next run", "sealed"
"""What becomes of the struck run: closed as interrupted, gone on with, sealed without more calls,
or sealed already."""

_LOST: Final = {
    "opening": Cell(69, "nothing written"),
    "planning": Cell(69, ANEW),
    "writing": Cell(69, RESUMED),
    "in a transaction": Cell(69, RESUMED),
    "finishing": Cell(69, RESUMED),
    "sealing": Cell(69, LATER),
}
_WAITED: Final = {stage: Cell(0, SEALED, "waited") for stage in _LOST if stage[:2] != "in"}
_AGAIN: Final = {
    stage: Cell(69, RESUMED) if stage == "in a transaction" else Cell(0, SEALED, "connects again")
    for stage in _LOST
}
_COMMITTED: Final = {
    "planning": Cell(69, ANEW),
    "writing": Cell(69, RESUMED, "nothing asked again"),
    "finishing": Cell(69, LATER),
    "sealing": Cell(69, SEALED),
}

DATABASE: Final[Mapping[str, Mapping[str, Cell]]] = {
    "locked for a moment": _WAITED,
    "locked longer than we wait": {s: c for s, c in _LOST.items() if s != "in a transaction"},
    "disk full": _LOST,
    "not a byte may be written": _LOST,
    "read-only": {"opening": Cell(69, "nothing written")},
    "schema too old": {"opening": Cell(78, "nothing written", "the line names the command")},
    "schema too new": {"opening": Cell(78, "nothing written", "the line names the command")},
    "PostgreSQL kills our connections": _AGAIN,
    "MariaDB kills our connections": _AGAIN,
    "PostgreSQL out of reach": _LOST,
    "MariaDB out of reach": _LOST,
    "PostgreSQL says no more": _LOST,
    "MariaDB says no more": _LOST,
    "PostgreSQL: COMMIT never arrives": {s: _LOST[s] for s in _COMMITTED},
    "MariaDB: COMMIT never arrives": {s: _LOST[s] for s in _COMMITTED},
    "PostgreSQL: COMMIT is not answered": _COMMITTED,
    "MariaDB: COMMIT is not answered": _COMMITTED,
}
"""Fault of the database → stage → result; a stage that is missing cannot have the fault."""

_DRAINED: Final = {
    "opening": ANEW,
    "planning": ANEW,
    "listing": ANEW,
    "writing": RESUMED,
    "in a transaction": RESUMED,
}
_KILLED: Final = {**_DRAINED, "opening": "nothing written", "finishing": RESUMED, "sealing": LATER}
_FINISHED: Final = {stage: Cell(0, SEALED, "finished first") for stage in ("finishing", "sealing")}
_SUCCEEDED: Final = {
    "planning": Cell(75, ANEW, "by the successor; this one sends and writes nothing"),
    "listing": Cell(75, ANEW, "as above"),
    "writing": Cell(75, RESUMED, "as above"),
    "in a transaction": Cell(
        75,
        RESUMED,
        "as above; 69 where the server ended its transaction; on SQLite it has the file's lock, "
        "and the successor ends with 69",
    ),
    "finishing": Cell(75, RESUMED, "as above"),
    "sealing": Cell(75, LATER, "as above; or 0, for its run is complete"),
}

PROCESS: Final[Mapping[str, Mapping[str, Cell]]] = {
    "SIGTERM": {stage: Cell(143, what) for stage, what in _DRAINED.items()} | _FINISHED,
    "SIGINT": {stage: Cell(130, what) for stage, what in _DRAINED.items()} | _FINISHED,
    "SIGKILL": {stage: Cell(-9, what) for stage, what in _KILLED.items()},
    "stopped beyond its lease": _SUCCEEDED,
    "a second copy": {
        stage: Cell(75, SEALED, "the first is not disturbed")
        for stage in ("planning", "listing", "writing", "finishing", "sealing")
    },
    "out of file descriptors": {
        "opening": Cell(69, "nothing written"),
        "writing": Cell(69, RESUMED, "or 0, if it has all that it needs"),
        "calling": Cell(69, RESUMED, "or 3 with network_error, if the database needs none"),
    },
    "out of memory": {
        "opening": Cell(70, "nothing written"),
        "writing": Cell(70, RESUMED),
    },
    "clock set back": {
        "opening": Cell(0, SEALED, "observations only; no version ends before it began"),
    },
}
"""Fault of the process → stage → result."""

SERVICE: Final[Mapping[str, tuple[str, str]]] = {
    "broker out of reach": (
        "one line, without its password",
        "tests/integration/test_queue_rabbitmq.py::test_unreachable_broker",
    ),
    "broker killed": (
        "the session ends, everything is given back, and a new one begins",
        "tests/integration/test_queue_rabbitmq.py::test_lost_connection_ends_the_session",
    ),
    "broker restarted with deliveries in flight": (
        "they come again, once",
        "tests/integration/test_queue_rabbitmq.py::test_cut_comes_again_once",
    ),
    "message unparsable": (
        "a dead letter with its reason; the others go on",
        "tests/integration/test_queue_rabbitmq.py::test_what_is_no_id_is_buried",
    ),
    "database out of reach": (
        "stops calling at once, comes back by itself",
        "tests/acceptance/test_serve.py::test_database_goes_away",
    ),
    "schema too old or new": (
        "exit 78",
        "tests/acceptance/test_serve.py::test_wrong_schema_ends_it",
    ),
    "SIGTERM": (
        "drained, exit 143",
        "tests/acceptance/test_serve.py::test_sigterm_drains",
    ),
    "SIGKILL": (
        "its run is closed by the next holder, every item is read",
        "tests/acceptance/test_serve.py::test_killed_worker_is_replaced",
    ),
    "a second copy": (
        "waits, is ready, takes over",
        "tests/acceptance/test_serve.py::test_the_second_waits_for_the_first",
    ),
    "key refused": (
        "its account pauses alone",
        "tests/acceptance/test_serve.py::test_refused_account_pauses_alone",
    ),
    "all of it at once, in a fleet": (
        "no rate exceeded, no item lost",
        "tests/acceptance/test_fleet.py::test_fleet",
    ),
}
"""Fault that meets `collector serve` → result, and the test that shows it."""


_CALL_HEADS: Final = {
    "single": "describeImage",
    "batch": "describeImages by ids",
    "listing": "describeImages by source",
    "members": "describeImageMembers",
}

_TEXT: Final = """\
# Faults

What a run makes of every fault at every stage of its work. The tables and the tests both come from
`tests/faults/cells.py`: each cell is a test with this result. `make test` runs them all in short
form, `make chaos` with the real lease times and 200 kills on each database.

After every fault this holds: each planned item has one observation; no image is `gone` without a
404 that names it; what could not be read keeps its last version and its `last_checked_at`; `verify`
finds nothing; nothing shows a traceback; and once the fault is over, the next run is complete, with
versions equal to what the endpoint shows. A cell begins with the exit code of the run that meets
the fault.


## Answers

The answer is spoiled in every attempt, for three of eight images or for a whole list.

{answers}
## The endpoint as a whole

{endpoint}
## The database

The fault strikes when the run reaches the stage, and is over once the run has ended. *{anew}*: the
next run closes the struck one as interrupted and plans again; *{resumed}*: it continues it;
*{later}*: there was nothing left to ask; *{sealed}*: the struck run itself finished. A dash: it
cannot happen there.

{database}
## The process

{process}
## The service

`collector serve` ends the session that meets a fault, gives everything back, and begins a new one.

{service}
## kill -9 at random moments

{crash}"""

_CRASH: Final = """\
`tests/faults/test_crash.py` starts a process, kills it at a random time, inspects the database, and
starts the next. Whenever one finishes, all versions are compared with the endpoint's images, some
of which are then changed or deleted. After each kill every item has one observation, and every
image that was asked for more than a second before (plus half a second for a busy machine) is
committed.
"""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _shown(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    return f"{cell.code}: {', '.join(filter(None, (cell.outcome, cell.note)))}"


def _staged(matrix: Mapping[str, Mapping[str, Cell]], stages: Sequence[str]) -> str:
    rows = [[fault, *(_shown(at.get(stage)) for stage in stages)] for fault, at in matrix.items()]
    return _table(["fault", *stages], rows)


def document() -> str:
    """The whole of `docs/faults.md`."""
    answers = [
        [MEANING[fault], *(_shown(cells[call]) for call in CALLS)]
        for fault, cells in ANSWERS.items()
    ]
    found = {stage for at in PROCESS.values() for stage in at}
    return _TEXT.format(
        anew=ANEW,
        resumed=RESUMED,
        later=LATER,
        sealed=SEALED,
        crash=_CRASH,
        answers=_table(["fault", *(_CALL_HEADS[call] for call in CALLS)], answers),
        endpoint=_table(
            ["fault", "result"], [[fault, _shown(cell)] for fault, cell in ENDPOINT.items()]
        ),
        database=_staged(DATABASE, tuple(_LOST)),
        process=_staged(PROCESS, [stage for stage in (*STAGES, "calling") if stage in found]),
        service=_table(
            ["fault", "result", "test"],
            [[fault, result, f"`{test}`"] for fault, (result, test) in SERVICE.items()],
        ),
    )


if __name__ == "__main__":
    print(document(), end="")  # noqa: T201

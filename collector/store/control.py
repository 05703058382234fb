"""The tables that steer the work (calls, queue, seals); with them `metadata` is whole."""

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, UniqueConstraint, text

from collector.store.columns import FLAG, fk, key, time
from collector.store.schema import metadata
from collector.store.types import IDENT, LONG_TEXT, WORD

__all__ = ["leases", "ledger", "ledger_head", "metadata", "queue_items", "run_blocks"]

leases = Table(
    "leases",
    metadata,
    Column(
        "name", String(64), primary_key=True, doc="`ak:` and a prefix of the access key's SHA-256."
    ),
    Column("account", IDENT, nullable=False, doc="Account name of the configuration."),
    Column(
        "holder", LONG_TEXT, nullable=False, doc="Who holds it, for people: host, process, command."
    ),
    Column(
        "boot_id",
        String(128),
        nullable=False,
        doc="Identifies one boot of one machine, and its pid namespace.",
    ),
    Column("pid", BigInteger, nullable=False, doc="Process id."),
    Column(
        "pid_started",
        BigInteger,
        nullable=False,
        doc="Start time of the process (clock ticks since boot).",
    ),
    Column(
        "token",
        BigInteger,
        nullable=False,
        doc="Grows by one with each taking; checked by every commit.",
    ),
    time("expires", "By the database's clock.", nullable=False),
    time(
        "free_at",
        "A successor makes no call before this (by the database's clock).",
        nullable=False,
    ),
    comment="Who may call for which access key.",
)

queue_items = Table(
    "queue_items",
    metadata,
    key(),
    fk("lane_id", "lanes.id", "The lane.", nullable=False),
    Column("image_id", IDENT, nullable=False, doc="Image id."),
    Column(
        "deliveries",
        Integer,
        nullable=False,
        server_default=text("0"),
        doc="Times it was begun and failed, or was cut.",
    ),
    time("added_at", "When it was added.", nullable=False),
    time("ready_at", "Not before this.", nullable=False),
    Column("token", BigInteger, doc="Lease token under which it is in flight; NULL when it waits."),
    time("started_at", "When it was taken; NULL when it waits."),
    Column(
        "again",
        FLAG,
        nullable=False,
        server_default=text("false"),
        doc="Added once more while in flight.",
    ),
    time("dead_at", "When it went to the dead letters; NULL otherwise."),
    Column("last_outcome", WORD, doc="Outcome of the last delivery."),
    Column("last_error", LONG_TEXT, doc="What that delivery said."),
    UniqueConstraint("lane_id", "image_id"),
    Index("ix_queue_items_ready", "lane_id", "dead_at", "ready_at"),
    comment="The durable work queue; an item leaves it with the commit of its result.",
)

run_blocks = Table(
    "run_blocks",
    metadata,
    fk("run_id", "runs.id", "The sealed run.", primary_key=True),
    Column(
        "kind",
        WORD,
        primary_key=True,
        doc="`lanes`, `observations`, `opened`, `closed`, `members_opened`, `members_closed`.",
    ),
    Column("number", Integer, primary_key=True, doc="0… in order."),
    Column("first", LONG_TEXT, nullable=False, doc="account/region/id of its first row."),
    Column("last", LONG_TEXT, nullable=False, doc="account/region/id of its last row."),
    Column("row_count", Integer, nullable=False, doc="Rows in it."),
    Column("digest", String(64), nullable=False, doc="SHA-256 of its rows' lines."),
    Column("locator", String(40), nullable=False, doc="Sums that name a single changed row."),
    comment="A sealed run's rows in blocks, each with its digest.",
)

ledger = Table(
    "ledger",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False, doc="1… without gaps."),
    Column("kind", WORD, nullable=False, doc="`run` or `prune`."),
    fk("run_id", "runs.id", "The run that was sealed; NULL for a pruning."),
    Column("content", LONG_TEXT, nullable=False, doc="The run's row, or what was pruned; JSON."),
    Column(
        "digest",
        String(64),
        nullable=False,
        doc="SHA-256 over the previous digest, kind, content and the run's block lines.",
    ),
    UniqueConstraint("run_id"),
    comment="The chain of sealed entries.",
)

ledger_head = Table(
    "ledger_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False, doc="Always 1."),
    Column("seq", BigInteger, nullable=False, doc="The last entry; 0 before the first."),
    Column(
        "digest",
        String(64),
        nullable=False,
        doc="The last entry's digest; 64 zeros before the first.",
    ),
    comment="The chain's end; locking its row makes sealing one at a time.",
)

"""The tables that steer the work (calls, queue, seals); with them `metadata` is whole."""

from sqlalchemy import BigInteger, Index, Integer, String, Table, UniqueConstraint, text

from collector.store.columns import FLAG, column, fk, key, optional
from collector.store.schema import metadata
from collector.store.types import IDENT, LONG_TEXT, SHA256, TIME, WORD

__all__ = ["leases", "ledger", "ledger_head", "metadata", "queue_items", "run_blocks"]

leases = Table(
    "leases",
    metadata,
    column("name", String(64), "`ak:` and a prefix of the access key's SHA-256.", primary_key=True),
    column("account", IDENT, "Account name of the configuration."),
    column("holder", LONG_TEXT, "Who holds it, for people: host, process, command."),
    column("boot_id", String(128), "Identifies one boot of one machine, and its pid namespace."),
    column("pid", BigInteger, "Process id."),
    column("pid_started", BigInteger, "Start time of the process (clock ticks since boot)."),
    column("token", BigInteger, "Grows by one with each taking; checked by every commit."),
    column("expires", TIME, "By the database's clock."),
    column("free_at", TIME, "A successor makes no call before this (by the database's clock)."),
    comment="Who may call for which access key.",
)

queue_items = Table(
    "queue_items",
    metadata,
    key(),
    fk("lane_id", "lanes.id", "The lane."),
    column("image_id", IDENT, "Image id."),
    column(
        "deliveries",
        Integer,
        "Times it was begun and failed, or was cut.",
        server_default=text("0"),
    ),
    column("added_at", TIME, "When it was added."),
    column("ready_at", TIME, "Not before this."),
    optional("token", BigInteger, "Lease token under which it is in flight; NULL when it waits."),
    optional("started_at", TIME, "When it was taken; NULL when it waits."),
    column("again", FLAG, "Added once more while in flight.", server_default=text("false")),
    optional("dead_at", TIME, "When it went to the dead letters; NULL otherwise."),
    optional("last_outcome", WORD, "Outcome of the last delivery."),
    optional("last_error", LONG_TEXT, "What that delivery said."),
    UniqueConstraint("lane_id", "image_id"),
    Index("ix_queue_items_ready", "lane_id", "dead_at", "ready_at"),
    comment="The durable work queue; an item leaves it with the commit of its result.",
)

run_blocks = Table(
    "run_blocks",
    metadata,
    fk("run_id", "runs.id", "The sealed run.", primary_key=True),
    column(
        "kind",
        WORD,
        "`lanes`, `observations`, `opened`, `closed`, `members_opened`, `members_closed`.",
        primary_key=True,
    ),
    column("number", Integer, "0… in order.", primary_key=True),
    column("first", LONG_TEXT, "account/region/id of its first row."),
    column("last", LONG_TEXT, "account/region/id of its last row."),
    column("row_count", Integer, "Rows in it."),
    column("digest", SHA256, "SHA-256 of its rows' lines."),
    column("locator", String(40), "Sums that name a single changed row."),
    comment="A sealed run's rows in blocks, each with its digest.",
)

ledger = Table(
    "ledger",
    metadata,
    column("seq", BigInteger, "1… without gaps.", primary_key=True, autoincrement=False),
    column("kind", WORD, "`run` or `prune`."),
    fk("run_id", "runs.id", "The run that was sealed; NULL for a pruning.", nullable=True),
    column("content", LONG_TEXT, "The run's row, or what was pruned; JSON."),
    column(
        "digest",
        SHA256,
        "SHA-256 over the previous digest, kind, content and the run's block lines.",
    ),
    UniqueConstraint("run_id"),
    comment="The chain of sealed entries.",
)

ledger_head = Table(
    "ledger_head",
    metadata,
    column("id", Integer, "Always 1.", primary_key=True, autoincrement=False),
    column("seq", BigInteger, "The last entry; 0 before the first."),
    column("digest", SHA256, "The last entry's digest; 64 zeros before the first."),
    comment="The chain's end; locking its row makes sealing one at a time.",
)

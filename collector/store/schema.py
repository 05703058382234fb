"""All tables: the inventory, its evidence, and what steers the work (leases, queue, seals).

A column's text is its meaning and `api` the field of the API it comes from; the data dictionary is
made from both.
"""

import sqlalchemy as sa

from collector.store.columns import (
    DISK_COLUMNS,
    FLAG,
    IMAGE_COLUMNS,
    column,
    count,
    fk,
    key,
    optional,
)
from collector.store.types import IDENT, LONG_TEXT, SHA256, TIME, WORD

__all__ = [
    "disk_attachments",
    "image_members",
    "image_versions",
    "images",
    "lanes",
    "leases",
    "ledger",
    "ledger_head",
    "member_versions",
    "metadata",
    "observation_rows",
    "queue_items",
    "run_blocks",
    "run_lanes",
    "runs",
    "schema_drift",
]

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


lanes = sa.Table(
    "lanes",
    metadata,
    key(),
    column("account", IDENT, "Account name of the configuration."),
    column("region", IDENT, "Region id, such as cn-north-1."),
    sa.UniqueConstraint("account", "region"),
    comment="Every (account, region) that was ever planned or queued.",
)

runs = sa.Table(
    "runs",
    metadata,
    key(),
    column("trigger", WORD, "`run`, `schedule` or `queue`."),
    column("status", WORD, "`running`, `complete`, `partial`, `failed`, `interrupted`."),
    column("started_at", TIME, "When planning began."),
    optional(
        "planned_at",
        TIME,
        "When the plan was complete; NULL while planning, and such a run is not resumed.",
    ),
    optional("finished_at", TIME, "When the run stopped working; NULL while it runs."),
    count("planned", "Items planned."),
    count("present", "Items that ended `present`."),
    count("not_found", "Items that ended `not_found`."),
    count(
        "failed",
        "All other items; planned = present + not_found + failed once the run is finished.",
    ),
    count("new_versions", "Image versions that this run opened."),
    count("unchanged", "Items `present` with the content already known."),
    count("requests", "Requests sent, listings, members and retries included."),
    count("retries", "Requests that repeated an earlier one."),
    count("throttled", "Requests answered with 429."),
    count("listings_failed", "Discover listings that could not be read whole."),
    column("plan_digest", SHA256, "SHA-256 of the effective targets and options."),
    column("config_digest", SHA256, "SHA-256 of the configuration without secrets."),
    optional("digest", SHA256, "The chain's SHA-256 at this run; NULL until it is sealed."),
    column("tool_version", WORD, "Version of this program."),
    column("time_zone", IDENT, "Zone in which the API's times were read."),
    optional("account", IDENT, "The account, for a run that belongs to one (those of `serve`)."),
    column(
        "scope",
        WORD,
        "`whole`: all the configured targets (of `account`, if it is set); `narrowed`: others.",
    ),
    sa.Index("ix_runs_plan_digest", "plan_digest"),
    sa.Index("ix_runs_status_finished_at", "status", "finished_at"),
    comment="One row a collection.",
)

run_lanes = sa.Table(
    "run_lanes",
    metadata,
    fk("run_id", "runs.id", "The run.", primary_key=True),
    fk("lane_id", "lanes.id", "The lane.", primary_key=True),
    count("planned", "Items planned."),
    count("present", "Items that ended `present`."),
    count("not_found", "Items that ended `not_found`."),
    count("failed", "All other items once the run is finished."),
    comment="Counts of a run by lane; they outlive the pruning of observations.",
)

images = sa.Table(
    "images",
    metadata,
    key(),
    column("account", IDENT, "Account that asked."),
    column("region", IDENT, "Region that was asked."),
    column("image_id", IDENT, "Image id.", api="imageId"),
    column(
        "state",
        WORD,
        "`present`, `gone` (deleted or no longer shared), `unknown` (never seen present).",
    ),
    column("first_planned_at", TIME, "When it was first planned."),
    optional("first_seen_at", TIME, "The first `present`."),
    optional("last_seen_at", TIME, "The last `present`."),
    optional("last_checked_at", TIME, "The last `present` or `not_found`."),
    optional("gone_at", TIME, "When the 404 was seen that made it `gone`; NULL otherwise."),
    optional("last_attempt_at", TIME, "The last attempt, whatever became of it."),
    optional("last_outcome", WORD, "Outcome of the last attempt."),
    optional(
        "failing_since",
        TIME,
        "The first of the failed attempts that followed the last reading; NULL when none did.",
    ),
    sa.UniqueConstraint("account", "region", "image_id"),
    sa.CheckConstraint("state in ('present', 'gone', 'unknown')", name="state"),
    comment="One row an image of an account and region, ever planned.",
)

observation_rows = sa.Table(
    "observation_rows",
    metadata,
    fk("run_id", "runs.id", "The run.", primary_key=True),
    fk("lane_id", "lanes.id", "The lane.", primary_key=True),
    fk("image_pk", "images.id", "The image.", primary_key=True),
    column("outcome", WORD, "What became of it; `not_attempted` from the moment it is planned."),
    optional("http_status", sa.Integer, "Status of the deciding answer."),
    optional(
        "error_code", LONG_TEXT, "The answer's error status, such as NOT_FOUND.", api="error.status"
    ),
    optional(
        "error_message",
        LONG_TEXT,
        "The answer's message, at most 500 characters.",
        api="error.message",
    ),
    optional("request_id", LONG_TEXT, "Request id of the deciding answer.", api="requestId"),
    column("attempts", sa.Integer, "Requests that carried this image."),
    optional(
        "duration_ms",
        sa.BigInteger,
        "From the first request to the last answer, waits included (milliseconds).",
    ),
    optional("observed_at", TIME, "When the deciding answer arrived; NULL while not attempted."),
    optional("members_outcome", WORD, "Outcome of the members call; NULL when it was not made."),
    sqlite_with_rowid=False,
    comment="Exactly one row a planned image of a run: the evidence.",
)

image_versions = sa.Table(
    "image_versions",
    metadata,
    key(),
    fk("image_pk", "images.id", "The image."),
    fk("run_id", "runs.id", "The run that saw it first."),
    fk("closed_run_id", "runs.id", "The run that saw it end; NULL while current.", nullable=True),
    column("account", IDENT, "Copied from images, so that an as-of question uses one index."),
    column("region", IDENT, "Copied from images."),
    column("valid_from", TIME, "When this content was first seen."),
    optional(
        "valid_to",
        TIME,
        "When other content, or the image's absence, was first seen; NULL while current.",
    ),
    optional(
        "last_confirmed_at",
        TIME,
        "Last time it was seen; NULL while current (then images.last_seen_at).",
    ),
    column("fingerprint", SHA256, "Lower-case hex SHA-256 of the payload's UTF-8 bytes."),
    column("payload", LONG_TEXT, "Canonical JSON text of the whole image object.", api="image"),
    *IMAGE_COLUMNS,
    sa.UniqueConstraint("image_pk", "valid_from"),
    sa.CheckConstraint("valid_to is null or valid_to > valid_from", name="period"),
    sa.CheckConstraint("(valid_to is null) = (closed_run_id is null)", name="closed_by"),
    sa.Index("ix_image_versions_image_pk_valid_to", "image_pk", "valid_to"),
    sa.Index("ix_image_versions_as_of", "region", "account", "valid_from", "valid_to"),
    sa.Index("ix_image_versions_valid_from", "valid_from"),
    sa.Index("ix_image_versions_valid_to", "valid_to"),
    sa.Index("ix_image_versions_run_id", "run_id"),
    sa.Index("ix_image_versions_closed_run_id", "closed_run_id"),
    comment="What an image was, from when to when; a new row only when its content changes.",
)
sa.Index(
    "uq_image_versions_open",
    image_versions.c.image_pk,
    unique=True,
    sqlite_where=image_versions.c.valid_to.is_(None),
    postgresql_where=image_versions.c.valid_to.is_(None),
    info={"dialects": ("sqlite", "postgresql")},  # MariaDB has no partial indexes
)

disk_attachments = sa.Table(
    "disk_attachments",
    metadata,
    key(),
    fk("image_version_id", "image_versions.id", "The version this disk belongs to."),
    *DISK_COLUMNS,
    sa.UniqueConstraint("image_version_id", "role", "position"),
    sa.CheckConstraint("role in ('system', 'data')", name="role"),
    comment="The disks of an image version; a changed disk is a new version.",
)

member_versions = sa.Table(
    "member_versions",
    metadata,
    key(),
    fk("image_pk", "images.id", "The image."),
    fk("run_id", "runs.id", "The run that saw it first."),
    fk("closed_run_id", "runs.id", "The run that saw it end; NULL while current.", nullable=True),
    column("valid_from", TIME, "When this list was first seen."),
    optional(
        "valid_to",
        TIME,
        "When another list, or the image's absence, was first seen; NULL while current.",
    ),
    column("last_confirmed_at", TIME, "Last time it was seen."),
    column("fingerprint", SHA256, "Lower-case hex SHA-256 of the payload's UTF-8 bytes."),
    column("payload", LONG_TEXT, "Canonical JSON text of the whole result object.", api="result"),
    sa.UniqueConstraint("image_pk", "valid_from"),
    sa.CheckConstraint("valid_to is null or valid_to > valid_from", name="period"),
    sa.Index("ix_member_versions_image_pk_valid_to", "image_pk", "valid_to"),
    sa.Index("ix_member_versions_valid_from", "valid_from"),
    sa.Index("ix_member_versions_valid_to", "valid_to"),
    sa.Index("ix_member_versions_run_id", "run_id"),
    sa.Index("ix_member_versions_closed_run_id", "closed_run_id"),
    comment="Whom an image was shared with, from when to when.",
)

image_members = sa.Table(
    "image_members",
    metadata,
    key(),
    fk("member_version_id", "member_versions.id", "The list this member belongs to."),
    column("position", sa.Integer, "1… in the API's order."),
    column("pin", LONG_TEXT, "PIN of the account that may use the image.", api="pins[]"),
    optional("login_name", LONG_TEXT, "Its login name, when the API says it.", api="loginNames[]"),
    sa.UniqueConstraint("member_version_id", "position"),
    comment="The accounts of one list.",
)

schema_drift = sa.Table(
    "schema_drift",
    metadata,
    column("id", SHA256, "SHA-256 of path, type and value.", primary_key=True),
    column("path", LONG_TEXT, "Where, such as image.systemDisk.cloudDisk.encrypt."),
    column("json_type", WORD, "JSON type that was found, or `duplicate key`."),
    optional("value", LONG_TEXT, "The value, when it is outside its documented set."),
    column("first_seen_at", TIME, "First time."),
    column("last_seen_at", TIME, "Last time."),
    count("seen", "Answers that had it."),
    column("example_image_id", IDENT, "An image that had it."),
    comment="What answers contain that the documentation does not know.",
)

leases = sa.Table(
    "leases",
    metadata,
    column(
        "name", sa.String(64), "`ak:` and a prefix of the access key's SHA-256.", primary_key=True
    ),
    column("account", IDENT, "Account name of the configuration."),
    column("holder", LONG_TEXT, "Who holds it, for people: host, process, command."),
    column("boot_id", sa.String(128), "Identifies one boot of one machine, and its pid namespace."),
    column("pid", sa.BigInteger, "Process id."),
    column("pid_started", sa.BigInteger, "Start time of the process (clock ticks since boot)."),
    column("token", sa.BigInteger, "Grows with each taking, so that older holders write nothing."),
    column("expires", TIME, "By the database's clock."),
    column("free_at", TIME, "A successor makes no call before this (by the database's clock)."),
    comment="Who may call for which access key.",
)

queue_items = sa.Table(
    "queue_items",
    metadata,
    key(),
    fk("lane_id", "lanes.id", "The lane."),
    column("image_id", IDENT, "Image id."),
    column(
        "deliveries",
        sa.Integer,
        "Times it was begun and failed, or was cut.",
        server_default=sa.text("0"),
    ),
    column("added_at", TIME, "When it was added."),
    column("ready_at", TIME, "Not before this."),
    optional(
        "token", sa.BigInteger, "Lease token under which it is in flight; NULL when it waits."
    ),
    optional("started_at", TIME, "When it was taken; NULL when it waits."),
    column("again", FLAG, "Added once more while in flight.", server_default=sa.text("false")),
    optional("dead_at", TIME, "When it went to the dead letters; NULL otherwise."),
    optional("last_outcome", WORD, "Outcome of the last delivery."),
    optional("last_error", LONG_TEXT, "What that delivery said."),
    sa.UniqueConstraint("lane_id", "image_id"),
    sa.Index("ix_queue_items_ready", "lane_id", "dead_at", "ready_at"),
    comment="The durable work queue; an item leaves it with the commit of its result.",
)

run_blocks = sa.Table(
    "run_blocks",
    metadata,
    fk("run_id", "runs.id", "The sealed run.", primary_key=True),
    column(
        "kind",
        WORD,
        "`lanes`, `observations`, `opened`, `closed`, `members_opened`, `members_closed`.",
        primary_key=True,
    ),
    column("number", sa.Integer, "0… in order.", primary_key=True),
    column("first", LONG_TEXT, "account/region/id of its first row."),
    column("last", LONG_TEXT, "account/region/id of its last row."),
    column("row_count", sa.Integer, "Rows in it."),
    column("digest", SHA256, "SHA-256 of its rows' lines."),
    column("locator", sa.String(40), "Sums that name a single changed row."),
    comment="A sealed run's rows in blocks, each with its digest.",
)

ledger = sa.Table(
    "ledger",
    metadata,
    column("seq", sa.BigInteger, "1… without gaps.", primary_key=True, autoincrement=False),
    column("kind", WORD, "`run` or `prune`."),
    fk("run_id", "runs.id", "The run that was sealed; NULL for a pruning.", nullable=True),
    column("content", LONG_TEXT, "The run's row, or what was pruned; JSON."),
    column(
        "digest",
        SHA256,
        "SHA-256 over the previous digest, kind, content and the run's block lines.",
    ),
    sa.UniqueConstraint("run_id"),
    comment="The chain of sealed entries.",
)

ledger_head = sa.Table(
    "ledger_head",
    metadata,
    column("id", sa.Integer, "Always 1.", primary_key=True, autoincrement=False),
    column("seq", sa.BigInteger, "The last entry; 0 before the first."),
    column("digest", SHA256, "The last entry's digest; 64 zeros before the first."),
    comment="The chain's end; locking its row makes sealing one at a time.",
)

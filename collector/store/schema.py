"""The tables of the inventory and its evidence; what each column means stands beside it.

`doc` is the column's meaning and `info["api"]` the field of the API it comes from; the data
dictionary is made from both.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

from collector.store.columns import DISK_COLUMNS, IMAGE_COLUMNS, count, fk, key, time
from collector.store.types import IDENT, LONG_TEXT, WORD

__all__ = [
    "disk_attachments",
    "image_members",
    "image_versions",
    "images",
    "lanes",
    "member_versions",
    "metadata",
    "observation_rows",
    "run_lanes",
    "runs",
    "schema_drift",
]

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


lanes = Table(
    "lanes",
    metadata,
    key(),
    Column("account", IDENT, nullable=False, doc="Account name of the configuration."),
    Column("region", IDENT, nullable=False, doc="Region id, such as cn-north-1."),
    UniqueConstraint("account", "region"),
    comment="Every (account, region) that was ever planned or queued.",
)

runs = Table(
    "runs",
    metadata,
    key(),
    Column("trigger", WORD, nullable=False, doc="`run`, `schedule` or `queue`."),
    Column(
        "status",
        WORD,
        nullable=False,
        doc="`running`, `complete`, `partial`, `failed`, `interrupted`.",
    ),
    time("started_at", "When planning began.", nullable=False),
    time(
        "planned_at", "When the plan was whole; NULL while planning, and such a run is not resumed."
    ),
    time("finished_at", "When the run stopped working; NULL while it runs."),
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
    Column(
        "plan_digest",
        String(64),
        nullable=False,
        doc="SHA-256 of the effective targets and options.",
    ),
    Column(
        "config_digest",
        String(64),
        nullable=False,
        doc="SHA-256 of the configuration without secrets.",
    ),
    Column("digest", String(64), doc="The chain's SHA-256 at this run; NULL until it is sealed."),
    Column("tool_version", WORD, nullable=False, doc="Version of this program."),
    Column("time_zone", IDENT, nullable=False, doc="Zone in which the API's times were read."),
    Column("account", IDENT, doc="The account, for a run that belongs to one (those of `serve`)."),
    Column(
        "scope",
        WORD,
        nullable=False,
        doc="`whole`: all the configured targets (of `account`, if it is set); `narrowed`: others.",
    ),
    Index("ix_runs_plan_digest", "plan_digest"),
    Index("ix_runs_status_finished_at", "status", "finished_at"),
    comment="One row a collection.",
)

run_lanes = Table(
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

images = Table(
    "images",
    metadata,
    key(),
    Column("account", IDENT, nullable=False, doc="Account that asked."),
    Column("region", IDENT, nullable=False, doc="Region that was asked."),
    Column("image_id", IDENT, nullable=False, doc="Image id.", info={"api": "imageId"}),
    Column(
        "state",
        WORD,
        nullable=False,
        doc="`present`, `gone` (deleted or no longer shared), `unknown` (never seen present).",
    ),
    time("first_planned_at", "When it was first planned.", nullable=False),
    time("first_seen_at", "The first `present`."),
    time("last_seen_at", "The last `present`."),
    time("last_checked_at", "The last `present` or `not_found`."),
    time("gone_at", "When the 404 was seen that made it `gone`; NULL otherwise."),
    time("last_attempt_at", "The last attempt, whatever became of it."),
    Column("last_outcome", WORD, doc="Outcome of the last attempt."),
    time(
        "failing_since",
        "The first of the failed attempts that followed the last reading; NULL when none did.",
    ),
    UniqueConstraint("account", "region", "image_id"),
    CheckConstraint("state in ('present', 'gone', 'unknown')", name="state"),
    comment="One row an image of an account and region, ever planned.",
)

observation_rows = Table(
    "observation_rows",
    metadata,
    fk("run_id", "runs.id", "The run.", primary_key=True),
    fk("lane_id", "lanes.id", "The lane.", primary_key=True),
    fk("image_pk", "images.id", "The image.", primary_key=True),
    Column(
        "outcome",
        WORD,
        nullable=False,
        doc="What became of it; `not_attempted` from the moment it is planned.",
    ),
    Column("http_status", Integer, doc="Status of the deciding answer."),
    Column(
        "error_code",
        LONG_TEXT,
        doc="The answer's error status, such as NOT_FOUND.",
        info={"api": "error.status"},
    ),
    Column(
        "error_message",
        LONG_TEXT,
        doc="The answer's message, at most 500 characters.",
        info={"api": "error.message"},
    ),
    Column(
        "request_id", LONG_TEXT, doc="Request id of the deciding answer.", info={"api": "requestId"}
    ),
    Column("attempts", Integer, nullable=False, doc="Requests that carried this image."),
    Column(
        "duration_ms",
        BigInteger,
        doc="From the first request to the last answer, waits included (milliseconds).",
    ),
    time("observed_at", "When the deciding answer arrived; NULL while not attempted."),
    Column("members_outcome", WORD, doc="Outcome of the members call; NULL when it was not made."),
    sqlite_with_rowid=False,
    comment="Exactly one row a planned image of a run: the evidence.",
)

image_versions = Table(
    "image_versions",
    metadata,
    key(),
    fk("image_pk", "images.id", "The image.", nullable=False),
    fk("run_id", "runs.id", "The run that saw it first.", nullable=False),
    fk("closed_run_id", "runs.id", "The run that saw it end; NULL while current."),
    Column(
        "account",
        IDENT,
        nullable=False,
        doc="Copied from images, so that an as-of question uses one index.",
    ),
    Column("region", IDENT, nullable=False, doc="Copied from images."),
    time("valid_from", "When this content was first seen.", nullable=False),
    time(
        "valid_to",
        "When other content, or the image's absence, was first seen; NULL while current.",
    ),
    time(
        "last_confirmed_at", "Last time it was seen; NULL while current (then images.last_seen_at)."
    ),
    Column(
        "fingerprint",
        String(64),
        nullable=False,
        doc="Lower-case hex SHA-256 of the payload's UTF-8 bytes.",
    ),
    Column(
        "payload",
        LONG_TEXT,
        nullable=False,
        doc="Canonical JSON text of the whole image object.",
        info={"api": "image"},
    ),
    *IMAGE_COLUMNS,
    UniqueConstraint("image_pk", "valid_from"),
    CheckConstraint("valid_to is null or valid_to > valid_from", name="period"),
    CheckConstraint("(valid_to is null) = (closed_run_id is null)", name="closed_by"),
    Index("ix_image_versions_image_pk_valid_to", "image_pk", "valid_to"),
    Index("ix_image_versions_as_of", "region", "account", "valid_from", "valid_to"),
    Index("ix_image_versions_valid_from", "valid_from"),
    Index("ix_image_versions_valid_to", "valid_to"),
    Index("ix_image_versions_run_id", "run_id"),
    Index("ix_image_versions_closed_run_id", "closed_run_id"),
    comment="What an image was, from when to when; a new row only when its content changes.",
)
Index(
    "uq_image_versions_open",
    image_versions.c.image_pk,
    unique=True,
    sqlite_where=image_versions.c.valid_to.is_(None),
    postgresql_where=image_versions.c.valid_to.is_(None),
    info={"dialects": ("sqlite", "postgresql")},  # MariaDB has no partial indexes
)

disk_attachments = Table(
    "disk_attachments",
    metadata,
    key(),
    fk(
        "image_version_id", "image_versions.id", "The version this disk belongs to.", nullable=False
    ),
    *DISK_COLUMNS,
    UniqueConstraint("image_version_id", "role", "position"),
    CheckConstraint("role in ('system', 'data')", name="role"),
    comment="The disks of an image version; a changed disk is a new version.",
)

member_versions = Table(
    "member_versions",
    metadata,
    key(),
    fk("image_pk", "images.id", "The image.", nullable=False),
    fk("run_id", "runs.id", "The run that saw it first.", nullable=False),
    fk("closed_run_id", "runs.id", "The run that saw it end; NULL while current."),
    time("valid_from", "When this list was first seen.", nullable=False),
    time(
        "valid_to", "When another list, or the image's absence, was first seen; NULL while current."
    ),
    time("last_confirmed_at", "Last time it was seen.", nullable=False),
    Column(
        "fingerprint",
        String(64),
        nullable=False,
        doc="Lower-case hex SHA-256 of the payload's UTF-8 bytes.",
    ),
    Column(
        "payload",
        LONG_TEXT,
        nullable=False,
        doc="Canonical JSON text of the whole result object.",
        info={"api": "result"},
    ),
    UniqueConstraint("image_pk", "valid_from"),
    CheckConstraint("valid_to is null or valid_to > valid_from", name="period"),
    Index("ix_member_versions_image_pk_valid_to", "image_pk", "valid_to"),
    Index("ix_member_versions_valid_from", "valid_from"),
    Index("ix_member_versions_valid_to", "valid_to"),
    Index("ix_member_versions_run_id", "run_id"),
    Index("ix_member_versions_closed_run_id", "closed_run_id"),
    comment="Whom an image was shared with, from when to when.",
)

image_members = Table(
    "image_members",
    metadata,
    key(),
    fk(
        "member_version_id",
        "member_versions.id",
        "The list this member belongs to.",
        nullable=False,
    ),
    Column("position", Integer, nullable=False, doc="1… in the API's order."),
    Column(
        "pin",
        LONG_TEXT,
        nullable=False,
        doc="PIN of the account that may use the image.",
        info={"api": "pins[]"},
    ),
    Column(
        "login_name",
        LONG_TEXT,
        doc="Its login name, when the API says it.",
        info={"api": "loginNames[]"},
    ),
    UniqueConstraint("member_version_id", "position"),
    comment="The accounts of one list.",
)

schema_drift = Table(
    "schema_drift",
    metadata,
    Column("id", String(64), primary_key=True, doc="SHA-256 of path, type and value."),
    Column(
        "path", LONG_TEXT, nullable=False, doc="Where, such as image.systemDisk.cloudDisk.encrypt."
    ),
    Column("json_type", WORD, nullable=False, doc="JSON type that was found, or `duplicate key`."),
    Column("value", LONG_TEXT, doc="The value, when it is outside its documented set."),
    time("first_seen_at", "First time.", nullable=False),
    time("last_seen_at", "Last time.", nullable=False),
    count("seen", "Answers that had it."),
    Column("example_image_id", IDENT, nullable=False, doc="An image that had it."),
    comment="What answers contain that the documentation does not know.",
)

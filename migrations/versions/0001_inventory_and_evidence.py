"""The first schema: inventory, evidence, and the tables that steer the work."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
IDENT = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
WORD = sa.String(32)
LONG_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
TIME = (
    sa.DateTime()
    .with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
    .with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
)


def create_table(name: str, *columns: Any, **options: Any) -> None:
    """Create a table whose text is compared byte by byte, trailing spaces included."""
    op.create_table(
        name,
        *columns,
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        # MariaDB's name and MySQL's: each takes the other's for a comment.
        mysql_collate="/*M! utf8mb4_nopad_bin */ /*!80017 utf8mb4_0900_bin */",
        **options,
    )


def upgrade() -> None:
    """Create everything."""
    create_table(
        "images",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("account", IDENT, nullable=False),
        sa.Column("region", IDENT, nullable=False),
        sa.Column("image_id", IDENT, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("first_planned_at", TIME, nullable=False),
        sa.Column("first_seen_at", TIME, nullable=True),
        sa.Column("last_seen_at", TIME, nullable=True),
        sa.Column("last_checked_at", TIME, nullable=True),
        sa.Column("gone_at", TIME, nullable=True),
        sa.Column("last_attempt_at", TIME, nullable=True),
        sa.Column("last_outcome", WORD, nullable=True),
        sa.Column("failing_since", TIME, nullable=True),
        sa.CheckConstraint("state in ('present', 'gone', 'unknown')", name="ck_images_state"),
        sa.PrimaryKeyConstraint("id", name="pk_images"),
        sa.UniqueConstraint(
            "account", "region", "image_id", name="uq_images_account_region_image_id"
        ),
        comment="One row an image of an account and region, ever planned.",
    )
    create_table(
        "lanes",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("account", IDENT, nullable=False),
        sa.Column("region", IDENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_lanes"),
        sa.UniqueConstraint("account", "region", name="uq_lanes_account_region"),
        comment="Every (account, region) that was ever planned or queued.",
    )
    create_table(
        "leases",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("account", IDENT, nullable=False),
        sa.Column("holder", LONG_TEXT, nullable=False),
        sa.Column("boot_id", sa.String(length=128), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("pid_started", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("expires", TIME, nullable=False),
        sa.Column("free_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
        comment="Who may call for which access key.",
    )
    create_table(
        "ledger_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_head"),
        comment="The chain's end; locking its row makes sealing one at a time.",
    )
    create_table(
        "runs",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("trigger", WORD, nullable=False),
        sa.Column("status", WORD, nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("planned_at", TIME, nullable=True),
        sa.Column("finished_at", TIME, nullable=True),
        sa.Column("planned", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("present", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("not_found", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("failed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("new_versions", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("unchanged", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("requests", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("retries", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("throttled", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("listings_failed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("plan_digest", sa.String(length=64), nullable=False),
        sa.Column("config_digest", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("tool_version", WORD, nullable=False),
        sa.Column("time_zone", IDENT, nullable=False),
        sa.Column("account", IDENT, nullable=True),
        sa.Column("scope", WORD, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        comment="One row a collection.",
    )
    op.create_index("ix_runs_plan_digest", "runs", ["plan_digest"], unique=False)
    op.create_index("ix_runs_status_finished_at", "runs", ["status", "finished_at"], unique=False)
    create_table(
        "schema_drift",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("path", LONG_TEXT, nullable=False),
        sa.Column("json_type", WORD, nullable=False),
        sa.Column("value", LONG_TEXT, nullable=True),
        sa.Column("first_seen_at", TIME, nullable=False),
        sa.Column("last_seen_at", TIME, nullable=False),
        sa.Column("seen", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("example_image_id", IDENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_schema_drift"),
        comment="What answers contain that the documentation does not know.",
    )
    create_table(
        "image_versions",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("image_pk", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("closed_run_id", sa.BigInteger(), nullable=True),
        sa.Column("account", IDENT, nullable=False),
        sa.Column("region", IDENT, nullable=False),
        sa.Column("valid_from", TIME, nullable=False),
        sa.Column("valid_to", TIME, nullable=True),
        sa.Column("last_confirmed_at", TIME, nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("payload", LONG_TEXT, nullable=False),
        sa.Column("name", LONG_TEXT, nullable=True),
        sa.Column("platform", LONG_TEXT, nullable=True),
        sa.Column("os_version", LONG_TEXT, nullable=True),
        sa.Column("architecture", LONG_TEXT, nullable=True),
        sa.Column("system_disk_size_gb", sa.BigInteger(), nullable=True),
        sa.Column("image_source", LONG_TEXT, nullable=True),
        sa.Column("os_type", LONG_TEXT, nullable=True),
        sa.Column("status", LONG_TEXT, nullable=True),
        sa.Column("create_time", TIME, nullable=True),
        sa.Column("size_mb", sa.BigInteger(), nullable=True),
        sa.Column("description", LONG_TEXT, nullable=True),
        sa.Column("owner_pin", LONG_TEXT, nullable=True),
        sa.Column("launch_permission", LONG_TEXT, nullable=True),
        sa.Column("snapshot_id", LONG_TEXT, nullable=True),
        sa.Column("root_device_type", LONG_TEXT, nullable=True),
        sa.Column("progress", LONG_TEXT, nullable=True),
        sa.Column("offline", sa.Boolean(), nullable=True),
        sa.Column("uefi_support", sa.Boolean(), nullable=True),
        sa.Column("imported", sa.Boolean(), nullable=True),
        sa.Column("boot_mode", LONG_TEXT, nullable=True),
        sa.Column("expired_time", TIME, nullable=True),
        sa.Column("login_name", LONG_TEXT, nullable=True),
        sa.Column("extra", LONG_TEXT, nullable=True),
        sa.CheckConstraint(
            "(valid_to is null) = (closed_run_id is null)", name="ck_image_versions_closed_by"
        ),
        sa.CheckConstraint(
            "valid_to is null or valid_to > valid_from", name="ck_image_versions_period"
        ),
        sa.ForeignKeyConstraint(
            ["closed_run_id"], ["runs.id"], name="fk_image_versions_closed_run_id_runs"
        ),
        sa.ForeignKeyConstraint(
            ["image_pk"], ["images.id"], name="fk_image_versions_image_pk_images"
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_image_versions_run_id_runs"),
        sa.PrimaryKeyConstraint("id", name="pk_image_versions"),
        sa.UniqueConstraint("image_pk", "valid_from", name="uq_image_versions_image_pk_valid_from"),
        comment="What an image was, from when to when; a new row only when its content changes.",
    )
    op.create_index(
        "ix_image_versions_as_of",
        "image_versions",
        ["region", "account", "valid_from", "valid_to"],
        unique=False,
    )
    op.create_index(
        "ix_image_versions_closed_run_id", "image_versions", ["closed_run_id"], unique=False
    )
    op.create_index(
        "ix_image_versions_image_pk_valid_to",
        "image_versions",
        ["image_pk", "valid_to"],
        unique=False,
    )
    op.create_index("ix_image_versions_run_id", "image_versions", ["run_id"], unique=False)
    op.create_index("ix_image_versions_valid_from", "image_versions", ["valid_from"], unique=False)
    op.create_index("ix_image_versions_valid_to", "image_versions", ["valid_to"], unique=False)
    if op.get_context().dialect.name in ("sqlite", "postgresql"):
        op.create_index(
            "uq_image_versions_open",
            "image_versions",
            ["image_pk"],
            unique=True,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
    create_table(
        "ledger",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", WORD, nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=True),
        sa.Column("content", LONG_TEXT, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_ledger_run_id_runs"),
        sa.PrimaryKeyConstraint("seq", name="pk_ledger"),
        sa.UniqueConstraint("run_id", name="uq_ledger_run_id"),
        comment="The chain of sealed entries.",
    )
    create_table(
        "member_versions",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("image_pk", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("closed_run_id", sa.BigInteger(), nullable=True),
        sa.Column("valid_from", TIME, nullable=False),
        sa.Column("valid_to", TIME, nullable=True),
        sa.Column("last_confirmed_at", TIME, nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("payload", LONG_TEXT, nullable=False),
        sa.CheckConstraint(
            "valid_to is null or valid_to > valid_from", name="ck_member_versions_period"
        ),
        sa.ForeignKeyConstraint(
            ["closed_run_id"], ["runs.id"], name="fk_member_versions_closed_run_id_runs"
        ),
        sa.ForeignKeyConstraint(
            ["image_pk"], ["images.id"], name="fk_member_versions_image_pk_images"
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_member_versions_run_id_runs"),
        sa.PrimaryKeyConstraint("id", name="pk_member_versions"),
        sa.UniqueConstraint(
            "image_pk", "valid_from", name="uq_member_versions_image_pk_valid_from"
        ),
        comment="Whom an image was shared with, from when to when.",
    )
    op.create_index(
        "ix_member_versions_closed_run_id", "member_versions", ["closed_run_id"], unique=False
    )
    op.create_index(
        "ix_member_versions_image_pk_valid_to",
        "member_versions",
        ["image_pk", "valid_to"],
        unique=False,
    )
    op.create_index("ix_member_versions_run_id", "member_versions", ["run_id"], unique=False)
    op.create_index("ix_member_versions_valid_from", "member_versions", ["valid_from"])
    op.create_index("ix_member_versions_valid_to", "member_versions", ["valid_to"])
    create_table(
        "observation_rows",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("lane_id", sa.BigInteger(), nullable=False),
        sa.Column("image_pk", sa.BigInteger(), nullable=False),
        sa.Column("outcome", WORD, nullable=False),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("error_code", LONG_TEXT, nullable=True),
        sa.Column("error_message", LONG_TEXT, nullable=True),
        sa.Column("request_id", LONG_TEXT, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), nullable=True),
        sa.Column("observed_at", TIME, nullable=True),
        sa.Column("members_outcome", WORD, nullable=True),
        sa.ForeignKeyConstraint(
            ["image_pk"], ["images.id"], name="fk_observation_rows_image_pk_images"
        ),
        sa.ForeignKeyConstraint(
            ["lane_id"], ["lanes.id"], name="fk_observation_rows_lane_id_lanes"
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_observation_rows_run_id_runs"),
        sa.PrimaryKeyConstraint("run_id", "lane_id", "image_pk", name="pk_observation_rows"),
        comment="Exactly one row a planned image of a run: the evidence.",
        sqlite_with_rowid=False,
    )
    create_table(
        "queue_items",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("lane_id", sa.BigInteger(), nullable=False),
        sa.Column("image_id", IDENT, nullable=False),
        sa.Column("deliveries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("added_at", TIME, nullable=False),
        sa.Column("ready_at", TIME, nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=True),
        sa.Column("started_at", TIME, nullable=True),
        sa.Column("again", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("dead_at", TIME, nullable=True),
        sa.Column("last_outcome", WORD, nullable=True),
        sa.Column("last_error", LONG_TEXT, nullable=True),
        sa.ForeignKeyConstraint(["lane_id"], ["lanes.id"], name="fk_queue_items_lane_id_lanes"),
        sa.PrimaryKeyConstraint("id", name="pk_queue_items"),
        sa.UniqueConstraint("lane_id", "image_id", name="uq_queue_items_lane_id_image_id"),
        comment="The durable work queue; an item leaves it with the commit of its result.",
    )
    op.create_index(
        "ix_queue_items_ready", "queue_items", ["lane_id", "dead_at", "ready_at"], unique=False
    )
    create_table(
        "run_blocks",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", WORD, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("first", LONG_TEXT, nullable=False),
        sa.Column("last", LONG_TEXT, nullable=False),
        sa.Column("row_count", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("locator", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_run_blocks_run_id_runs"),
        sa.PrimaryKeyConstraint("run_id", "kind", "number", name="pk_run_blocks"),
        comment="A sealed run's rows in blocks, each with its digest.",
    )
    create_table(
        "run_lanes",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("lane_id", sa.BigInteger(), nullable=False),
        sa.Column("planned", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("present", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("not_found", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("failed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["lane_id"], ["lanes.id"], name="fk_run_lanes_lane_id_lanes"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_run_lanes_run_id_runs"),
        sa.PrimaryKeyConstraint("run_id", "lane_id", name="pk_run_lanes"),
        comment="Counts of a run by lane; they outlive the pruning of observations.",
    )
    create_table(
        "disk_attachments",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("image_version_id", sa.BigInteger(), nullable=False),
        sa.Column("role", WORD, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("device_name", LONG_TEXT, nullable=True),
        sa.Column("disk_category", LONG_TEXT, nullable=True),
        sa.Column("auto_delete", sa.Boolean(), nullable=True),
        sa.Column("disk_type", LONG_TEXT, nullable=True),
        sa.Column("disk_size_gb", sa.BigInteger(), nullable=True),
        sa.Column("iops", sa.BigInteger(), nullable=True),
        sa.Column("throughput", sa.BigInteger(), nullable=True),
        sa.Column("snapshot_id", LONG_TEXT, nullable=True),
        sa.Column("encrypted", sa.Boolean(), nullable=True),
        sa.Column("extra", LONG_TEXT, nullable=True),
        sa.CheckConstraint("role in ('system', 'data')", name="ck_disk_attachments_role"),
        sa.ForeignKeyConstraint(
            ["image_version_id"],
            ["image_versions.id"],
            name="fk_disk_attachments_image_version_id_image_versions",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_disk_attachments"),
        sa.UniqueConstraint(
            "image_version_id",
            "role",
            "position",
            name="uq_disk_attachments_image_version_id_role_position",
        ),
        comment="The disks of an image version; a changed disk is a new version.",
    )
    create_table(
        "image_members",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("member_version_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("pin", LONG_TEXT, nullable=False),
        sa.Column("login_name", LONG_TEXT, nullable=True),
        sa.ForeignKeyConstraint(
            ["member_version_id"],
            ["member_versions.id"],
            name="fk_image_members_member_version_id_member_versions",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_image_members"),
        sa.UniqueConstraint(
            "member_version_id", "position", name="uq_image_members_member_version_id_position"
        ),
        comment="The accounts of one list.",
    )

    op.execute(
        "INSERT INTO ledger_head (id, seq, digest) VALUES "
        "(1, 0, '0000000000000000000000000000000000000000000000000000000000000000')"
    )


def downgrade() -> None:
    """Drop everything, with all that was collected."""
    for name in (
        "image_members",
        "disk_attachments",
        "run_lanes",
        "run_blocks",
        "queue_items",
        "observation_rows",
        "member_versions",
        "ledger",
        "image_versions",
        "schema_drift",
        "runs",
        "ledger_head",
        "leases",
        "lanes",
        "images",
    ):
        op.drop_table(name)

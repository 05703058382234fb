"""${message}.

House rules: no import of the application (a revision must mean the same for ever); the views are gone while
this runs, and come back at head; batch mode for every change of a table (SQLite); a way down for every way up.
"""

from alembic import op
import sqlalchemy as sa
${imports if imports else ""}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}

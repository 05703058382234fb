"""`collector show`: one image now, as of a time, or through its versions."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from collector.cli.options import Where, database_options, json_option, reading, when
from collector.cli.output import change_lines, described, moment, value
from collector.cli.runtime import until_stopped
from collector.errors import Exit, UsageError
from collector.ids import parse_reference
from collector.text import harmless_json, printable

if TYPE_CHECKING:
    from collector.store.reads import AsOf, Record

__all__ = ["command"]

_HIDDEN = {"id", "image_pk", "run_id", "closed_run_id", "valid_from", "valid_to"}
_HIDDEN |= {"last_confirmed_at", "payload", "disks"}
"""What of a version is told otherwise, or in JSON alone."""


@click.command()
@database_options
@click.argument("reference", metavar="REGION/ID")
@click.option("--at", type=when, metavar="TIME", help="As of this time.")
@click.option("--history", is_flag=True, help="All versions, with what changed in each.")
@click.option("--account", metavar="A", help="Only this account's; by default each account's.")
@json_option
@until_stopped
async def command(
    where: Where,
    reference: str,
    at: datetime | None,
    account: str | None,
    *,
    history: bool,
    as_json: bool,
) -> int:
    """Show one image now, as of a time, or through its history.

    TIME is a date, a time (UTC unless it names a zone), or how long ago, such as 36h or 7d. As of a
    time an image is confirmed, assumed (not read since), gone (deleted or no longer shared), or not
    known. The exit code is 1 if there is no version to show.
    """
    if history and at is not None:
        raise UsageError("--at and --history exclude each other")
    region, image_id = parse_reference(reference)
    async with reading(where) as opened:
        from msgspec.json import encode

        from collector.store import reads

        async with opened.read() as connection:
            found = await reads.find(connection, region, image_id, account)
            show = _history if history else _as_of
            shown = [await show(connection, image, at) for image in found]
    if as_json:
        images = [document for document, _ in shown]
        told = {"region": region, "image_id": image_id, "at": at, "images": images}
        click.echo(harmless_json(encode(reads.plain(told))))
    else:
        click.echo("\n\n".join("\n".join(lines) for _, lines in shown), nl=bool(shown))
    if not found:
        of = f" of account {printable(account)}" if account else ""
        click.echo(f"collector: the database has no image {region}/{image_id}{of}", err=True)
    versions = [document.get("versions") or document.get("version") for document, _ in shown]
    return Exit.OK if any(versions) else Exit.FINDINGS


async def _as_of(
    connection: Any, image: "Record", at: datetime | None
) -> "tuple[Record, list[str]]":
    """The document and the lines of an image as of a time; None: now."""
    from collector.store import reads

    # The clock of who collects may be ahead of this one.
    now = max(datetime.now(UTC), image["last_checked_at"] or image["first_planned_at"])
    found = await reads.as_of(connection, image, at or now)
    document = _record(image) | {
        "knowledge": found.knowledge.value,
        "version": _record(found.version) if found.version else None,
        "members": _record(found.members) if found.members else None,
    }
    return document, [_title(image), *_lines(found, at)]


def _lines(found: "AsOf", at: datetime | None) -> list[str]:
    image, version = found.image, found.version
    if at is None:
        told = f"{_styled(image['state'])}, last seen {moment(image['last_seen_at'])}"
    else:
        told = f"{_styled(found.knowledge)} as of {moment(at)}"
    text = [f"  {told}"]
    if image["failing_since"] is not None and (at is None or at >= image["failing_since"]):
        since = moment(image["failing_since"])
        text.append(f"  unread since {since}: {image['last_outcome']}")
    if version is None:
        return [*text, f"  first seen {moment(image['first_seen_at'])}"]
    if version["valid_to"] is not None:
        text.append(f"  until {moment(version['valid_to'])} it was:")
    text.append(f"  {'version from':<20} {moment(version['valid_from'])} (run {version['run_id']})")
    text.append(f"  {'last confirmed':<20} {moment(version['last_confirmed_at'])}")
    text += [f"  {k:<20} {value(v)}" for k, v in version.items() if k not in _HIDDEN]
    text += [f"  {'disk':<20} {described(disk)}" for disk in version["disks"]]
    if found.members is not None:
        pins = ", ".join(value(pin["pin"]) for pin in found.members["pins"]) or "nobody"
        text.append(f"  {'shared with':<20} {pins}")
    return text


async def _history(
    connection: Any, image: "Record", _: datetime | None
) -> "tuple[Record, list[str]]":
    """The same of all its versions, and of what changed in each."""
    from collector.store.changes import history
    from collector.store.reads import plain

    versions, lists, changes = await history(connection, image)
    changed = {change.at: plain(change) for change in changes}
    of_version = ("kind", "fields", "disks")
    told = [
        _record(v) | {"changes": {name: changed[v["valid_from"]][name] for name in of_version}}
        for v in versions
    ]
    members = [_record(one) | {"changes": changed[one["valid_from"]]["members"]} for one in lists]
    state = f"  {_styled(image['state'])}, last seen {moment(image['last_seen_at'])}"
    text = [line for change in changes for line in change_lines(change)]
    document = _record(image) | {"versions": told, "members": members}
    return document, [_title(image), state, *text]


def _record(row: "Record") -> "Record":
    """A row without surrogate keys."""
    return {name: found for name, found in row.items() if name not in {"id", "image_pk"}}


def _title(image: "Record") -> str:
    where = f"{image['account']} {image['region']}/{image['image_id']}"
    return click.style(printable(where), bold=True)


def _styled(state: str) -> str:
    colour = {"present": "green", "confirmed": "green", "assumed": "yellow"}.get(state, "red")
    return click.style(state, fg=colour)

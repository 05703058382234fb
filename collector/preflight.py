"""Tells before the first run whether everything that it needs is there, for `collector check`."""

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from collector.errors import CollectorError, Exit
from collector.jdcloud import protocol
from collector.jdcloud.client import Client
from collector.jdcloud.credentials import Credentials
from collector.jdcloud.protocol import Call, Reply
from collector.models import Outcome
from collector.queue import queue_of
from collector.session import load_credentials, signer_of
from collector.settings import Settings
from collector.sources import Selection, Sources
from collector.store import migrate
from collector.store.engine import Database
from collector.store.leases import Holder, Leases
from collector.text import counted

__all__ = ["checks"]

WARN_SKEW_S: Final = 60.0
"""A clock that is further off is warned of (seconds)."""

FAIL_SKEW_S: Final = 900.0
"""The gateway refuses signatures that are older than this (seconds)."""

AT_ONCE: Final = 8
"""Accounts that are checked at once."""

_FORBIDDEN: Final = 403


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: `ok`, `warn`, or `fail` with the exit code that it means."""

    check: str
    status: str
    message: str
    code: int = Exit.OK


def _failed(check: str, error: CollectorError) -> Finding:
    return Finding(check, "fail", str(error), error.exit_code)


async def checks(settings: Settings, *, offline: bool) -> AsyncIterator[Finding]:
    """Everything that is found, in the order of looking; `offline`: without a call to anybody."""
    for finding in _configuration(settings):
        yield finding
    keys: Mapping[str, Credentials] = {}
    try:
        keys = load_credentials(settings, os.environ)
        yield Finding("credentials", "ok", f"found for {', '.join(keys)}")
    except CollectorError as error:
        yield _failed("credentials", error)
    try:
        async with Database(settings.database.url) as database:
            if offline and database.kind != "sqlite":
                yield Finding("database", "ok", f"{database}: not asked, offline")
                return
            found, exists = await _database(database)
            yield found
            if offline:
                return
            if found.status == "ok":
                yield await _queue(settings, database, exists=exists)
                for one in await _accounts(settings, keys, database if exists else None):
                    yield one
            else:
                yield Finding("account", "warn", "not called: no database holds the leases")
    except CollectorError as error:
        yield _failed("database", error)


def _configuration(settings: Settings) -> Iterator[Finding]:
    for warning in settings.warnings:
        yield Finding("configuration", "warn", warning)
    counts = f"{counted(len(settings.accounts), 'account')}, "
    counts += counted(len(settings.targets), "target")
    try:
        with Sources.of(settings, Selection(), sys.stdin.buffer):
            yield Finding("configuration", "ok", f"{settings.path}: {counts}")
    except CollectorError as error:
        yield _failed("configuration", error)


async def _database(database: Database) -> tuple[Finding, bool]:
    """Whether it can be used, and whether it is there."""
    path = database.path
    if path is not None and not database.exists:
        message = f"{database}: absent, the first run creates it"
        if os.access(path.parent, os.W_OK):
            return Finding("database", "ok", message), False
        text = f"{database}: the directory cannot be written"
        return Finding("database", "fail", text, Exit.UNAVAILABLE), False
    try:
        revision = await migrate.revision_of(database)
        if revision is None:
            return Finding("database", "ok", f"{database}: empty, the first run fills it"), False
        await migrate.require_head(database)
    except CollectorError as error:
        return _failed("database", error), False
    return Finding("database", "ok", f"{database}: at revision {revision}"), True


async def _queue(settings: Settings, database: Database, *, exists: bool) -> Finding:
    if not exists and settings.queue.url == "database":
        return Finding("queue", "ok", "empty: the database is not there yet")
    try:
        queue = queue_of(settings, database)
        try:
            await queue.reach()
            depths = await queue.depths() if exists else []
        finally:
            await queue.close()
    except CollectorError as error:
        return _failed("queue", error)
    ready, dead = sum(depth.ready for depth in depths), sum(depth.failed for depth in depths)
    message = f"reachable, {ready:,} ready, {counted(dead, 'dead letter')}"
    return Finding("queue", "warn" if dead else "ok", message)


async def _accounts(
    settings: Settings, keys: Mapping[str, Credentials], database: Database | None
) -> list[Finding]:
    some, tls = asyncio.Semaphore(AT_ONCE), ssl.create_default_context()  # some 40 ms each

    async def one(name: str) -> list[Finding]:
        check, api = f"account {name}", settings.api
        leases = Leases(database, {name: keys[name].key_id}) if database is not None else None
        async with some:
            try:
                wait_s = await leases.take(name) if leases is not None else 0.0
                if isinstance(wait_s, Holder):
                    return [Finding(check, "ok", f"held by {wait_s.holder}: not called")]
                await asyncio.sleep(wait_s)
                signer = signer_of(settings, name, keys[name])
                async with Client(
                    timeout_s=api.timeout,
                    max_response_bytes=api.max_response_bytes,
                    tls=tls,
                    guard=leases.check if leases is not None else None,
                ) as client:
                    reply = await client.send(_call(settings, name), signer)
                    skew_s = client.clock_skew_s
            except CollectorError as error:
                return [_failed(check, error)]
            finally:
                if leases is not None:
                    await leases.release()
        return [_judge(check, reply), *_clock(check, skew_s)]

    groups = await asyncio.gather(*(one(name) for name in keys))
    findings = [finding for group in groups for finding in group]
    if any(not group[0].code for group in groups):  # 69 and 77 are for when nothing can be read
        findings = [replace(one, code=Exit.PARTIAL if one.code else Exit.OK) for one in findings]
    return findings


def _call(settings: Settings, name: str) -> Call:
    """The cheapest call that the account is configured for: an image, else a short listing."""
    targets = [target for target in settings.targets if target.account == name]
    for target in targets:
        if target.images:
            return protocol.describe_image(target.region, target.images[0])
    region = targets[0].region if targets else "cn-north-1"
    source = next((source for target in targets for source in target.discover), "private")
    return protocol.list_images(region, source, 1, page_size=10)


def _judge(check: str, reply: Reply) -> Finding:
    said = " ".join(filter(None, (reply.error_code, reply.error_message)))
    match reply.outcome:
        case Outcome.PRESENT | Outcome.NOT_FOUND:
            return Finding(check, "ok", "credentials accepted")
        case Outcome.THROTTLED:
            return Finding(check, "warn", f"credentials accepted, but throttled: {said}")
        case Outcome.DENIED if reply.http_status == _FORBIDDEN:
            return Finding(check, "warn", f"credentials accepted, but not permitted: {said}")
        case Outcome.DENIED:
            return Finding(check, "fail", f"credentials refused: {said}", Exit.REFUSED)
        case Outcome.NETWORK_ERROR | Outcome.TIMEOUT:
            return Finding(check, "fail", f"no answer: {said}", Exit.UNAVAILABLE)
        case _:
            status = reply.http_status or ""
            return Finding(check, "fail", f"{reply.outcome} {status}: {said}", Exit.PARTIAL)


def _clock(check: str, skew_s: float | None) -> Iterator[Finding]:
    if skew_s is None:
        return
    status = "ok" if abs(skew_s) <= WARN_SKEW_S else "warn"
    code = Exit.OK
    if abs(skew_s) > FAIL_SKEW_S:
        status, code = "fail", Exit.REFUSED
    way = "behind" if skew_s > 0 else "ahead of"
    message = f"this clock is {abs(skew_s):.0f} s {way} the endpoint's"
    yield Finding(f"clock, {check}", status, message, code)

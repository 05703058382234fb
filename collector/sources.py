"""Where ids come from: configuration, files, standard input, and listings of the API.

Every source is read whole and checked before anything is planned; its content goes into the plan's
digest, by which an unfinished run is found again.
"""

import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from collector import log
from collector.errors import CollectorError, ConfigurationError, UnavailableError, UsageError
from collector.ids import PUBLISHED_REGIONS, id_problem, parse_reference, read_ids, region_problem
from collector.jdcloud.protocol import list_images
from collector.lanes import AbandonedError, Account, Lane
from collector.models import LaneKey, Outcome, Source
from collector.settings import Api, Settings
from collector.store.writes import Tally
from collector.text import os_reason

__all__ = ["IdsFile", "ListingError", "Selection", "Sources", "list_ids", "plan_digest"]

CHUNK: Final = 5_000
"""Ids that are read from a file before they are handed on."""


AGAIN: Final = 2
"""How often a listing that shrank while it was read is begun again."""


class ListingError(Exception):
    """A listing could not be read whole; the text says why."""

    def __init__(self, text: str, outcome: Outcome = Outcome.INVALID_RESPONSE) -> None:
        super().__init__(text)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Selection:
    """What the command line asks for; empty means what the configuration names.

    Attributes:
        images: `REGION/ID` each; with `ids_file` and `discover` it replaces the configured targets.
        ids_file: a path, or `-` for standard input; a line is `REGION/ID`.
        regions: narrows to these; for `discover`, names them.
        accounts: narrows to these.
    """

    images: tuple[str, ...] = ()
    ids_file: str | None = None
    discover: tuple[Source, ...] = ()
    regions: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()

    @property
    def replaces(self) -> bool:
        """Whether the configured targets are left aside."""
        return bool(self.images or self.ids_file is not None or self.discover)

    @property
    def narrows(self) -> bool:
        """Whether this is not simply the whole configuration."""
        return self.replaces or bool(self.regions or self.accounts)


@dataclass(frozen=True, slots=True)
class IdsFile:
    """A file of ids that was read once and found good.

    Attributes:
        account: whom its ids are asked for.
        region: of all its lines; None when each line names its own (`REGION/ID`).
        digest: SHA-256 of its content.
        keys: the lanes it names.
    """

    path: Path
    name: str
    account: str
    region: str | None
    digest: str
    keys: frozenset[LaneKey]

    @classmethod
    def read(
        cls, path: Path, name: str, account: str, region: str | None, error: type[CollectorError]
    ) -> "IdsFile":
        """Read a file once; raises `error` unless every line is good."""
        try:
            with path.open("rb") as stream:
                stream.seek(0)  # what /dev/fd opens may share its place
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
                stream.seek(0)
                found = {r for r, _ in read_ids(stream, name=name, region=region, error=error)}
        except OSError as problem:
            raise error(
                f"{name}: {os_reason(problem)}; allowed: a readable file of ids"
            ) from problem
        keys = frozenset(LaneKey(account, region) for region in found)
        return cls(path, name, account, region, digest, keys)

    def ids(self, regions: Sequence[str]) -> Iterator[tuple[LaneKey, list[str]]]:
        """Its ids by lane, some thousands at a time; of the given regions, if there are any."""
        chunks: dict[str, list[str]] = {}
        with self.path.open("rb") as stream:
            stream.seek(0)
            for region, image_id in read_ids(stream, name=self.name, region=self.region):
                if regions and region not in regions:
                    continue
                chunk = chunks.setdefault(region, [])
                chunk.append(image_id)
                if len(chunk) >= CHUNK:
                    yield LaneKey(self.account, region), chunks.pop(region)
        for region, chunk in chunks.items():
            yield LaneKey(self.account, region), chunk


def plan_digest(api: Api, parts: Sequence[object]) -> str:
    """SHA-256 of what tells one plan from others: its targets, and what is asked, never rates."""
    told = [["members", api.members], ["time_zone", api.time_zone], *parts]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


@dataclass(slots=True)
class Sources:
    """The effective sources of a run, checked, after narrowing."""

    images: dict[LaneKey, list[str]] = field(default_factory=dict)
    files: list[IdsFile] = field(default_factory=list)
    discover: dict[LaneKey, set[Source]] = field(default_factory=dict)
    regions: tuple[str, ...] = ()

    @property
    def keys(self) -> list[LaneKey]:
        """Every lane that is named."""
        keys = {*self.images, *self.discover, *(key for file in self.files for key in file.keys)}
        return sorted(key for key in keys if not self.regions or key.region in self.regions)

    @property
    def accounts(self) -> list[str]:
        """Every account that is named."""
        return sorted({key.account for key in self.keys})

    def ids(self) -> Iterator[tuple[LaneKey, list[str]]]:
        """The ids that are known without asking the API."""
        yield from self.images.items()
        for file in self.files:
            yield from file.ids(self.regions)

    def digest(self, api: Api) -> str:
        """SHA-256 of what is planned."""
        files = sorted((f.account, f.region or "", f.digest) for f in self.files)
        parts: list[object] = [["regions", *sorted(set(self.regions))]]
        parts += [["images", str(key), *sorted(set(i))] for key, i in sorted(self.images.items())]
        parts += [["file", *file] for file in files]
        parts += [["discover", str(key), *sorted(s)] for key, s in sorted(self.discover.items())]
        return plan_digest(api, parts)

    @classmethod
    @contextmanager
    def of(
        cls,
        settings: Settings,
        selection: Selection,
        stdin: BinaryIO | None = None,
        *,
        may_be_empty: bool = False,
    ) -> "Iterator[Sources]":
        """Read and check what the configuration and the command line name.

        Standard input is kept, as long as the block lasts, in a temporary file without a name:
        nothing stays behind when the process is killed.

        Raises:
            UsageError: what the command line names is malformed or not there.
            ConfigurationError: what the configuration names is, or it names no image; either
                way naming none is good where it `may_be_empty`.
            UnavailableError: there is nowhere to keep standard input.
        """
        known = [account.name for account in settings.accounts]
        for name in selection.accounts:
            if name not in known:
                raise UsageError(f"--account: no account {name!r}; there are: {', '.join(known)}")
        for region in selection.regions:
            if problem := region_problem(region):
                raise UsageError(f"--region: {problem}")
        sources = cls(regions=selection.regions)
        with ExitStack() as kept:
            if selection.replaces:
                sources._select(settings, selection, stdin, kept)
            else:
                settings.require_targets()
                sources._configure(settings, selection)
            if not sources.keys and not may_be_empty:
                if selection.narrows:
                    raise UsageError("the command line selects no image at all")
                raise ConfigurationError(f"{settings.path}: its files of ids name no image at all")
            configured = {target.region for target in settings.targets}  # warned of by itself
            for region in sorted({key.region for key in sources.keys} - configured):
                if region not in PUBLISHED_REGIONS:
                    log.get_logger().warning("unpublished_region", region=region)
            yield sources

    def _configure(self, settings: Settings, selection: Selection) -> None:
        for index, target in enumerate(settings.targets):
            if selection.accounts and target.account not in selection.accounts:
                continue
            if selection.regions and target.region not in selection.regions:
                continue
            key = LaneKey(target.account, target.region)
            if target.images:
                self.images.setdefault(key, []).extend(target.images)
            if target.ids_file:
                path = Path(target.ids_file)
                name = f"{settings.path}: targets[{index}].ids_file: {path}"
                self.files.append(
                    IdsFile.read(path, name, target.account, target.region, ConfigurationError)
                )
            if target.discover:
                self.discover.setdefault(key, set()).update(target.discover)

    def _select(
        self, settings: Settings, selection: Selection, stdin: BinaryIO | None, kept: ExitStack
    ) -> None:
        named = selection.accounts or (account.name for account in settings.accounts)
        accounts = list(dict.fromkeys(named))
        if not accounts:
            raise ConfigurationError(f"{settings.path}: accounts: found none; allowed: one or more")
        if (selection.images or selection.ids_file is not None) and len(accounts) != 1:
            raise UsageError(f"--account: name one of the accounts {', '.join(accounts)}")
        for text in selection.images:
            region, image_id = parse_reference(text)
            if not selection.regions or region in selection.regions:
                self.images.setdefault(LaneKey(accounts[0], region), []).append(image_id)
        if selection.ids_file is not None:
            piped = selection.ids_file == "-"
            name = "standard input" if piped else selection.ids_file or "--ids-file"
            path = Path("/dev/stdin" if piped else selection.ids_file)
            if piped or path.is_fifo():  # can be read only once
                with nullcontext(stdin or io.BytesIO()) if piped else path.open("rb") as stream:
                    path = _keep(stream, name, kept)
            self.files.append(IdsFile.read(path, name, accounts[0], None, UsageError))
        for account in accounts if selection.discover else ():
            configured = {target.region for target in settings.targets if target.account == account}
            regions = selection.regions or configured
            if not regions:
                raise UsageError(
                    f"--region: name one; the configuration names none for {account!r}"
                )
            for region in regions:
                self.discover[LaneKey(account, region)] = set(selection.discover)


def _keep(stream: BinaryIO, name: str, kept: ExitStack) -> Path:
    """Where to read a stream again, until `kept` is closed."""
    try:
        spool = kept.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - `kept` closes it
    except FileNotFoundError as error:
        raise UnavailableError(f"{name} cannot be kept: {error.strerror}") from None
    shutil.copyfileobj(stream, spool)
    spool.flush()
    return Path(f"/dev/fd/{spool.fileno()}")


async def list_ids(
    account: Account, lane: Lane, names: Iterable[Source], tally: Tally
) -> AsyncIterator[tuple[Source, list[str] | ListingError]]:
    """List the image ids of some sources with describeImages, a page at a time.

    Where a source cannot be listed whole, the reason comes after what could be, and is logged.
    """
    for name in names:
        try:
            async for ids in _pages(account, lane, name, tally):
                yield name, ids
        except AbandonedError:  # refused before, or stopped, which is told elsewhere
            yield name, ListingError("not asked", Outcome.NOT_ATTEMPTED)
        except ListingError as error:
            where = {"account": lane.key.account, "region": lane.key.region, "source": name}
            log.get_logger().error("listing_failed", **where, reason=str(error))
            yield name, error


async def _pages(
    account: Account, lane: Lane, source: Source, tally: Tally
) -> AsyncIterator[list[str]]:
    """List one source.

    Images that move up a page while it is read would be missed: when the API counts fewer than
    before, it is begun again, and its ids come twice.

    Raises:
        ListingError: a page could not be read, came twice or has more images than the API counts,
            or all pages have fewer, or their number would not stop shrinking.
        AbandonedError: the lane was closed.
    """
    page = listed = counted = begun_again = 0
    pages: dict[str, int] = {}  # by the first id
    while True:
        page += 1
        ids, images, total = await _page(account, lane, source, page, tally)
        if total < counted:
            if begun_again == AGAIN:
                raise ListingError(f"the API counted {counted} images, then {total}")
            begun_again, page, listed, counted = begun_again + 1, 0, 0, 0
            pages.clear()
            continue
        if ids and (same := pages.setdefault(ids[0], page)) != page:
            # Else what is not listed would pass for counted.
            raise ListingError(f"page {page} is page {same} again")
        listed, counted = listed + images, total
        if ids:
            yield ids
        if len(ids) < images:
            raise ListingError("an image without a usable id")
        if images <= total <= listed:
            return
        if not images or images > total:
            raise ListingError(f"{listed} images were listed where the API counts {total}")


async def _page(
    account: Account, lane: Lane, source: Source, page: int, tally: Tally
) -> tuple[list[str], int, int]:
    """Ask for one page: its usable ids, how many images it has, and how many the API counts."""
    call = list_images(lane.key.region, source, page)
    reply = (await account.request(lane, call, tally)).reply
    if reply.outcome is not Outcome.PRESENT or reply.result is None:
        reason = reply.error_message or reply.error_code or "no reason given"
        raise ListingError(f"{reply.outcome}: {reason}", reply.outcome)
    images, total = reply.result.get("images"), reply.result.get("totalCount")
    if images is None and total == 0:
        images = []
    if not isinstance(images, list) or not isinstance(total, int):
        raise ListingError("an answer without a list")
    ids = [image.get("imageId") if isinstance(image, dict) else None for image in images]
    good = [found for found in ids if isinstance(found, str) and not id_problem(found)]
    return good, len(images), total

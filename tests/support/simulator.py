"""The simulator as tests have it: its images can be changed, and it keeps what came and when."""

from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web
from typing_extensions import override

from collector.simulator import images, server
from collector.simulator.images import MAX_IMAGES, Image, matches
from collector.simulator.server import ADMIN
from collector.simulator.signatures import read_claim

__all__ = ["Inventory", "Simulator", "SimulatorOptions", "running"]

MAX_ARRIVALS = 200_000
"""How many of the latest arrivals are kept of one access key in one region."""


class Inventory(images.Inventory):
    """An inventory whose images can be added, changed, deleted, restored and shared."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._changed: dict[tuple[str, str], Image | None] = {}  # None: deleted
        self._deleted: dict[tuple[str, str], Image] = {}
        self._pins: dict[tuple[str, str], tuple[str, ...]] = {}
        self._added = 0
        super().__init__(*args, **options)

    @override
    def image(self, region: str, image_id: str) -> Image | None:
        key = region, image_id
        return self._changed[key] if key in self._changed else super().image(region, image_id)

    @override
    def ids(self, region: str) -> Iterator[str]:
        for image_id in super().ids(region):
            if self._changed.get((region, image_id), {}) is not None:
                yield image_id
        for key, image in list(self._changed.items()):
            if key[0] == region and image is not None and super().image(*key) is None:
                yield key[1]

    @override
    def members(self, region: str, image_id: str) -> tuple[str, ...]:
        pins = super().members(region, image_id)
        return pins and self._pins.get((region, image_id), pins)

    @override
    def _matches(self, region: str, image_id: str, filters: Mapping[str, str]) -> bool:
        if (image := self._changed.get((region, image_id))) is not None:
            return matches(image, filters)
        return super()._matches(region, image_id, filters)

    def add(self, region: str, image_id: str | None = None, **fields: Any) -> str:
        """Adds an image, with what `fields` leave open made up; returns its id."""
        self._added += 1
        number = MAX_IMAGES - self._added
        image_id = self._id(number) if image_id is None else image_id
        made_up = images._compose(self._digest(number), image_id, number % 10_000, 0)
        self._put(region, image_id, made_up | fields)
        return image_id

    def change(self, region: str, image_id: str, **fields: Any) -> None:
        """Changes fields of an image, by their API names; raises KeyError when there is none."""
        self._put(region, image_id, self._existing(region, image_id) | fields)

    def delete(self, region: str, image_id: str) -> None:
        """Deletes an image; raises KeyError when there is none."""
        self._deleted[region, image_id] = self._existing(region, image_id)
        self._put(region, image_id, None)

    def restore(self, region: str, image_id: str) -> None:
        """Brings a deleted image back as it was; raises KeyError when there was none."""
        if (region, image_id) not in self._deleted:
            number = self._number(region, image_id)
            if number is None:
                raise KeyError(image_id)
            self._deleted[region, image_id] = self._build(number)
        self._put(region, image_id, self._deleted[region, image_id])

    def share(self, region: str, image_id: str, *pins: str) -> None:
        """Shares a private image with these accounts, with none: with nobody."""
        self.change(region, image_id, launchPermission="specifiedUsers" if pins else "ownerOnly")
        self._pins[region, image_id] = pins

    def _existing(self, region: str, image_id: str) -> Image:
        if (image := self.image(region, image_id)) is None:
            raise KeyError(image_id)
        return image

    def _put(self, region: str, image_id: str, image: Image | None) -> None:
        self._changed[region, image_id] = image
        self.forget()


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorOptions(server.SimulatorOptions):
    """How a simulator behaves.

    Attributes:
        credentials: further pairs of access key and secret key.
    """

    credentials: Mapping[str, str] = field(default_factory=dict)


class Simulator(Inventory, server.Simulator):
    """A simulator that can be interfered with.

    Attributes:
        hits: requests that named an image, by (region, image id).
        intercept: asked before every answer; what it returns is the answer, unless None.
    """

    def __init__(self, options: SimulatorOptions) -> None:
        super().__init__(options)
        self.credentials.update(options.credentials)
        self.hits: Counter[tuple[str, str]] = Counter()
        self.intercept: Callable[[web.BaseRequest], Awaitable[Any]] | None = None
        self._arrivals: defaultdict[tuple[str, str], deque[float]] = defaultdict(
            lambda: deque(maxlen=MAX_ARRIVALS)
        )

    @override
    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        if not path.startswith(ADMIN):
            call, region, image_id = self._route(request.method, path)
            claim = read_claim(request.headers.get("Authorization"))
            key = claim.access_key if claim and claim.access_key in self.credentials else "?"
            self._arrivals[key, region].append(self.clock())
            asked = [value for name, value in parse_qsl(query) if name.startswith("ids.")]
            self.hits.update((region, one) for one in ([image_id] if image_id else asked))
            self.requests[call] += 1
            answer = await self.intercept(request) if self.intercept is not None else None
            if answer is not None:
                return answer
            self.requests[call] -= 1  # it is counted there
        return await super().handle(request)

    def worst_window(
        self, access_key: str | None = None, region: str | None = None, seconds: float = 1.0
    ) -> int:
        """The most requests that arrived within `seconds`; None: all keys, all regions."""
        times = sorted(
            arrival
            for (key, where), arrivals in self._arrivals.items()
            if access_key in (None, key) and region in (None, where)
            for arrival in arrivals
        )
        windows = (bisect_left(times, start + seconds) - i for i, start in enumerate(times))
        return max(windows, default=0)

    @override
    def counts(self) -> dict[str, Any]:
        worst = {f"{key} {where}": self.worst_window(key, where) for key, where in self._arrivals}
        return {**super().counts(), "worst_window": worst}


def running(options: SimulatorOptions) -> AbstractAsyncContextManager[Simulator]:
    """A simulator that listens as long as the context lasts."""
    return server.running(Simulator(options))

"""The settings as frozen models: every key, default and limit of the public contract.

A field's description is what an error message calls allowed, where type and limits do not say it.
Values are checked strictly: `"10"` is no number.
"""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
)

from collector.errors import ConfigurationError
from collector.ids import (
    NAME_ALLOWED,
    PUBLISHED_REGIONS,
    REGION_ALLOWED,
    id_problem,
    region_problem,
)
from collector.models import Source
from collector.text import passwords_of, redacted_url, shown

__all__ = [
    "Account",
    "Api",
    "ProblemError",
    "Settings",
    "Table",
    "Target",
    "check_database",
    "duration",
]

_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([smhdw])")
_HOST_PORT = re.compile(
    r"(?P<host>[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?"
)
_SCHEMES: Final = ("sqlite", "postgresql", "mysql", "mariadb")

_CREDENTIALS: Final = '"env", "jdc:PROFILE" or "file:PATH"'
_DATABASE: Final = (
    "sqlite:///FILE (sqlite:////FILE when absolute), or postgresql://, mysql:// or mariadb:// "
    "and USER:PASSWORD@HOST/NAME"
)
_DURATION_ALLOWED: Final = 'a number and s, m, h, d or w, as "30m"; "0" or "" for none'
_QUEUE: Final = '"database", amqp://… or amqps://…'


class ProblemError(ValueError):
    """Says itself what was found and what is allowed."""


def duration(text: object) -> float | None:
    """Seconds of `"30m"`, `"1h"`, `"400d"`; None for `"0"` and `""`, which mean none.

    Raises:
        ValueError: saying what was found and what is allowed.
    """
    if text in ("", "0"):
        return None
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ProblemError(f"found {shown(text)}; allowed: {_DURATION_ALLOWED}")
    return float(match[1]) * _UNIT_S[match[2]] or None


def _checked(problem_of: Callable[[str], str | None]) -> AfterValidator:
    def check(text: str) -> str:
        if problem := problem_of(text):
            raise ProblemError(problem)
        return text

    return AfterValidator(check)


def _address(text: str) -> tuple[str, int | None]:
    match = _HOST_PORT.fullmatch(text)
    port = int(match["port"]) if match and match["port"] else None
    if match is None or (port or 0) > 65535:  # noqa: PLR2004
        raise ValueError
    return match["host"].strip("[]"), port


def _endpoint(url: str) -> str:
    scheme, _, rest = url.removesuffix("/").partition("://")
    host, port = _address(rest)
    if port == 0 or (scheme != "https" and not (scheme == "http" and _is_loopback(host))):
        raise ValueError
    return f"{scheme}://{rest}"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _url_problem(url: str, allowed: str) -> ProblemError:
    # Only the scheme is shown: where a URL is wrong, nobody knows which part is its password.
    scheme = re.match(r"[\w+.-]{1,20}(?=://)", url)
    near = get_close_matches(scheme[0].partition("+")[0], _SCHEMES, 1) if scheme else []
    hint = f" (did you mean {near[0]}://?)" if near and scheme and near[0] != scheme[0] else ""
    found = f"{scheme[0]}://…" if scheme else f"a text of {len(url)} characters, no URL"
    return ProblemError(f"found {found}{hint}; allowed: {allowed}")


def check_database(url: str) -> str:
    """The URL, when its scheme is known, it is no SQLite in memory, and MariaDB is told a name.

    Raises:
        ValueError: saying what was found and what is allowed, without a password.
    """
    scheme, separator, rest = url.partition("://")
    file = rest.partition("?")[0]
    in_memory = scheme == "sqlite" and (file[:1] != "/" or file in ("/", "/:memory:"))
    nameless = scheme in ("mysql", "mariadb") and not file.partition("/")[2]
    if in_memory or nameless or scheme not in _SCHEMES or not (separator and url.isprintable()):
        raise _url_problem(url, _DATABASE)
    return url


def _queue(url: str) -> str:
    with suppress(ValueError):  # a port that is no number
        if url == "database" or (re.fullmatch(r"amqps?://\S+", url) and urlsplit(url).port != 0):
            return url
    raise _url_problem(url, _QUEUE)


def _credentials(text: str) -> str:
    if text != "env" and not re.match(r"(jdc|file):.", text):
        # What stands here instead is often the secret itself.
        raise ProblemError(f"found a text of {len(text)} characters; allowed: {_CREDENTIALS}")
    return text


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, OSError):
        raise ValueError from None
    return name


def _listen(text: str) -> str:
    if text and _address(text)[1] is None:
        raise ValueError
    return text


def _ids_file(text: str, info: ValidationInfo) -> str:
    if not text or "\0" in text:
        raise ValueError
    return str((info.context or {}).get("base", Path()) / text)


def _audit_value(value: object) -> object:
    members = value if isinstance(value, list) else [value]
    if not all(isinstance(member, str | bool | float | int) for member in members):
        raise ValueError
    json.dumps(value, allow_nan=False)
    return value


Duration = Annotated[float | None, BeforeValidator(duration), Field(description=_DURATION_ALLOWED)]
Name = Annotated[str, _checked(id_problem), Field(description=NAME_ALLOWED)]
Region = Annotated[str, _checked(region_problem), Field(description=REGION_ALLOWED)]
AuditValue = Annotated[Any, AfterValidator(_audit_value)]


class Table(BaseModel):
    """A table of the file: frozen, strict about types, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Database(Table):
    """`[database]`; a relative SQLite file is relative to the working directory."""

    url: Annotated[str, AfterValidator(check_database)] = Field(
        default="sqlite:///collector.db", description=_DATABASE, repr=False
    )


class _Calls(Table):
    """What `[api]` says for every account, and an account for itself; rates in requests a second.

    Attributes:
        rate_limit: of each region.
        account_rate_limit: over all regions; 0: none.
    """

    endpoint: Annotated[str, AfterValidator(_endpoint)] = Field(
        default="https://vm.jdcloud-api.com",
        description="https://HOST[:PORT]; http:// for loopback hosts only",
    )
    rate_limit: float = Field(
        default=10.0, gt=0, le=100_000, description="a number above 0, at most 100000"
    )
    account_rate_limit: float = Field(
        default=16.0, ge=0, le=100_000, description="a number from 0 (none) to 100000"
    )


class Api(_Calls):
    """`[api]`: times in seconds."""

    signature: Literal["JDCLOUD2", "JDCLOUD3"] = "JDCLOUD2"
    security_token_encoding: Literal["raw", "base64"] = "raw"  # noqa: S105
    concurrency: int = Field(default=16, ge=1, le=1024)
    timeout: float = Field(default=10.0, gt=0, le=600, description="seconds, above 0, at most 600")
    max_attempts: int = Field(default=5, ge=1, le=100)
    fetch: Literal["single", "batch"] = "single"
    adaptive: bool = True
    members: bool = False
    max_response_bytes: int = Field(default=4194304, ge=1, le=1 << 30)
    deadline: Duration = None
    time_zone: Annotated[str, AfterValidator(_zone)] = Field(
        default="Asia/Shanghai", description='the name of a time zone, as "Asia/Shanghai"'
    )


class Account(_Calls):
    """One of `[[accounts]]`; `Settings.account` has what it does not set itself from `[api]`."""

    name: Name
    credentials: Annotated[str, AfterValidator(_credentials)] = Field(
        default="env", description=_CREDENTIALS
    )


class Target(Table):
    """One of `[[targets]]`; `ids_file` is an absolute path once loaded."""

    account: Name = Field(description="the name of an account")
    region: Region
    images: tuple[Name, ...] = Field(default=(), strict=False, description="a list of image ids")
    ids_file: Annotated[str, AfterValidator(_ids_file)] | None = Field(
        default=None, description="the path of a file"
    )
    discover: tuple[Source, ...] = Field(
        default=(), strict=False, description=f"a list of {', '.join(get_args(Source))}"
    )


class Queue(Table):
    """`[queue]`."""

    url: Annotated[str, AfterValidator(_queue)] = Field(
        default="database", description=_QUEUE, repr=False
    )
    name: Name = "collector"
    max_deliveries: int = Field(default=5, ge=1, le=1000)


class Schedule(Table):
    """`[schedule]`: seconds between two runs of an account; None: only the queue."""

    every: Duration = 3600.0


class Serve(Table):
    """`[serve]`."""

    listen: Annotated[str, AfterValidator(_listen)] = Field(
        default="127.0.0.1:9464", description='HOST:PORT, or "" for none'
    )

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port to listen on."""
        host, port = _address(self.listen) if self.listen else ("", None)
        return None if port is None else (host, port)


class Metrics(Table):
    """`[metrics]`: where `run` writes for node_exporter; empty: nowhere."""

    textfile: str = Field(
        default="", pattern=r"^(.*\.prom)?$", description='a path that ends in .prom, or ""'
    )


class Retention(Table):
    """`[retention]`: seconds of observations that `db prune` keeps; None: all."""

    observations: Duration = 400 * 86400.0


class Log(Table):
    """`[log]`."""

    format: Literal["auto", "console", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error", "critical"] = "info"


class Settings(Table):
    """The whole configuration, with attributes named as in the file."""

    database: Database = Database()
    api: Api = Api()
    accounts: tuple[Account, ...] = Field(
        default=(), strict=False, description="[[accounts]] tables"
    )
    targets: tuple[Target, ...] = Field(default=(), strict=False, description="[[targets]] tables")
    queue: Queue = Queue()
    schedule: Schedule = Schedule()
    serve: Serve = Serve()
    metrics: Metrics = Metrics()
    retention: Retention = Retention()
    audit: dict[str, dict[str, AuditValue]] = Field(
        default={},
        description="a table for each rule, of texts, numbers, true, false, or lists of them",
    )
    log: Log = Log()
    _path: Path = PrivateAttr(default=Path("collector.toml"))
    _variables: dict[tuple[int | str, ...], str] = PrivateAttr(default={})

    @property
    def path(self) -> Path:
        """The file that was read."""
        return self._path

    @property
    def base(self) -> Path:
        """The directory that relative paths of the file start from, absolute."""
        return self._path.absolute().parent

    def where(self, *key: str) -> str:
        """What says a key, for an error: the environment's variable, or the file and the key."""
        return self._variables.get(key) or f"{self._path}: {'.'.join(key)}"

    @property
    def warnings(self) -> list[str]:
        """What is allowed and yet probably a mistake, a line each."""
        return [
            f"{self._path}: targets[{index}].region: {target.region!r} is none of the published "
            f"regions ({', '.join(PUBLISHED_REGIONS)})"
            for index, target in enumerate(self.targets)
            if target.region not in PUBLISHED_REGIONS
        ]

    @property
    def secrets(self) -> list[str]:
        """The passwords that stand in URLs, for `log.redact`."""
        return passwords_of(self.database.url) + passwords_of(self.queue.url)

    def account(self, name: str) -> Account:
        """One account, with what it does not set itself taken from `[api]`.

        Raises:
            KeyError: when there is no such account.
        """
        for account in self.accounts:
            if account.name == name:
                common = self.api.model_dump(include=set(_Calls.model_fields))
                return account.model_copy(update=common | account.model_dump(exclude_unset=True))
        raise KeyError(name)

    def require_targets(self) -> None:
        """Refuse a configuration that names no image at all.

        Raises:
            ConfigurationError: when no target has images, an `ids_file` or `discover`.
        """
        if not any(target.images or target.ids_file or target.discover for target in self.targets):
            raise ConfigurationError(
                f"{self._path}: targets: found no image to collect; allowed: at least one "
                "[[targets]] with images, ids_file or discover"
            )

    def digest(self) -> str:
        """Hex SHA-256 over the canonical JSON of the effective settings, passwords masked."""
        values = self.model_dump(mode="json")
        values["accounts"] = [self.account(one.name).model_dump() for one in self.accounts]
        for table in ("database", "queue"):
            values[table]["url"] = redacted_url(values[table]["url"])
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return sha256(text.encode()).hexdigest()

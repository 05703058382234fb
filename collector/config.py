"""Reads the configuration: TOML and environment → frozen settings, every error at once.

The places, keys and exit code are those of the public contract. An environment variable
`COLLECTOR_SECTION__KEY` is read as the type of its key and wins over the file.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from collector.errors import ConfigurationError
from collector.settings import ProblemError, Settings, Table, check_database
from collector.text import nearest, os_reason, printable, shown

__all__ = ["checked_url", "database_url", "distinct_keys", "found", "load"]

PLACES: Final = (Path("collector.toml"), Path("/etc/collector/collector.toml"))
"""Where the file is looked for when neither `--config` nor `$COLLECTOR_CONFIG` names it."""

_Path = tuple[int | str, ...]
_PREFIX: Final = "COLLECTOR_"
_MAX_FILE_BYTES: Final = 16 * 1024 * 1024
_MAX_ERRORS: Final = 50
"""Error lines shown at once."""


def load(path: Path | None, *, env: Mapping[str, str]) -> Settings:
    """Read and check the configuration: `path`, else `$COLLECTOR_CONFIG`, else `PLACES`.

    Raises:
        ConfigurationError: one line for each thing that is wrong.
    """
    file = _find(path, env)
    raw = _read(file)
    variables, problems = _override(raw, env)
    settings = None
    try:
        settings = Settings.model_validate(raw, context={"base": file.absolute().parent})
    except ValidationError as error:
        problems += [_problem(one, file, variables) for one in error.errors(include_url=False)]
    problems += [f"{file}: {problem}" for problem in _cross_checks(raw)]
    if settings is None or problems:
        raise _all_at_once(problems)
    settings._path, settings._variables = file, variables  # noqa: SLF001 — set once, here
    return settings


def database_url(path: Path | None, override: str | None, env: Mapping[str, str]) -> str:
    """The database of a read-only command: `--database`, else the environment, else the file.

    With either of the first two, no configuration file is needed or read.

    Raises:
        ConfigurationError: when the URL, or the configuration, is wrong.
    """
    name = f"{_PREFIX}DATABASE__URL"
    where, url = ("--database", override) if override is not None else (name, env.get(name))
    if url is None or (override is None and path is not None):
        return load(path, env=env).database.url
    return checked_url(where, url)


def checked_url(where: str, url: str) -> str:
    """The URL of a database, as `where` names it.

    Raises:
        ConfigurationError: when it is wrong.
    """
    try:
        return check_database(url)
    except ValueError as error:
        raise ConfigurationError(f"{where}: {error}") from None


def distinct_keys(pairs: Iterable[tuple[str, str]]) -> None:
    """Refuse two accounts (name, access key) that share a key: the API counts calls by key.

    Raises:
        ConfigurationError: naming both accounts, not the key.
    """
    seen: dict[str, str] = {}
    problems = [
        f"accounts: {first!r} and {name!r} have the same access key; allowed: a key of its own each"
        for name, key in pairs
        if (first := seen.setdefault(key, name)) != name
    ]
    if problems:
        raise _all_at_once(problems)


def _find(path: Path | None, env: Mapping[str, str]) -> Path:
    if named := path or env.get("COLLECTOR_CONFIG"):
        return Path(named)
    if (place := found()) is None:
        raise ConfigurationError(
            f"no configuration: looked for {', '.join(map(str, PLACES))}; name one by --config or "
            "COLLECTOR_CONFIG, or write one by `collector init`"
        )
    return place


def found() -> Path | None:
    """The one of `PLACES` that is read where none is named."""
    return next((place for place in PLACES if _is_there(place)), None)


def _is_there(place: Path) -> bool:
    try:
        place.stat()  # not `exists`, which takes "may not" for "is not" on Python 3.14
    except PermissionError:  # root's home, where `runuser` leaves a service's user
        return place.is_absolute()  # reading it then says why not
    except OSError:
        return False
    return True


def _read(file: Path) -> dict[str, Any]:
    name = printable(str(file))
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{name}: cannot read the configuration: {os_reason(error)}"
        ) from None
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigurationError(f"{name}: found over {_MAX_FILE_BYTES} bytes; allowed: TOML")
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        found = f"byte {content[error.start]:#04x}"
        where = f"line {line}, column {column}"
        raise ConfigurationError(f"{name}: {where}: found {found}; allowed: UTF-8") from None
    except (ValueError, RecursionError) as error:
        text = printable(str(error))
        match = re.fullmatch(r"(.*) \(at (.*)\)", text)
        what, where = (match[1], match[2]) if match else (text, "somewhere")
        raise ConfigurationError(f"{name}: {where}: {what}; allowed: TOML") from None


def _override(raw: dict[str, Any], env: Mapping[str, str]) -> tuple[dict[_Path, str], list[str]]:
    """Put the environment's values into `raw`: which variable set which key, and what is wrong."""
    variables: dict[_Path, str] = {}
    problems: list[str] = []
    for name in sorted(env):
        section, separator, key = name.removeprefix(_PREFIX).lower().partition("__")
        if not name.startswith(_PREFIX) or not separator:
            continue
        path = (section, *key.split("__")) if section == "audit" else (section, key)
        field = _field_at(path)
        if section in _LISTS:
            problems.append(f"{name}: found a key of a list; allowed: keys outside of lists")
        elif field is None:
            known = [
                f"{_PREFIX}{one}__{inner}".upper()
                for one, *rest in _FIELDS
                for inner in rest
                if one not in _LISTS
            ]
            problems.append(f"{name}: unknown key; {nearest(name, known)}")
        else:
            inside: Any = raw
            for part in path[:-1]:
                inside = inside.setdefault(part, {}) if isinstance(inside, dict) else None
            if isinstance(inside, dict):
                inside[path[-1]] = _typed(env[name], field.annotation)
                variables[path] = name
    return variables, problems


def _typed(text: str, kind: object) -> object:
    """The text as its key's type; what cannot be read stays a text, which validation refuses."""
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind is int or kind is float:
            return kind(text)
        return json.loads(text) if get_origin(kind) is dict else text  # a rule's parameter
    except (KeyError, ValueError, RecursionError):
        return text


def _fields(table: type[Table], *path: str) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Every key of a table and of those inside of it, with its field."""
    for name, field in table.model_fields.items():
        yield (*path, name), field
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, Table):
                yield from _fields(kind, *path, name)


_FIELDS: Final = dict(_fields(Settings))
_LISTS: Final = ("accounts", "targets")


def _names(path: _Path) -> tuple[str, ...]:
    return tuple(part for part in path if isinstance(part, str))


def _field_at(path: _Path) -> FieldInfo | None:
    """The field of a key; for everything in `[audit]` that table's own; None when unknown."""
    return _FIELDS.get(("audit",) if path[:1] == ("audit",) else _names(path))


def _allowed(field: FieldInfo | None) -> str:
    """What a key may be, in words: from its description, else its type and limits."""
    if field is None or field.description:
        return (field.description if field else None) or "nothing"
    if get_origin(field.annotation) is Literal:
        *most, last = (f'"{choice}"' for choice in get_args(field.annotation))
        return f"{', '.join(most)} or {last}"
    if field.annotation is bool:
        return "true or false"
    if field.annotation is int:
        low = next(limit.ge for limit in field.metadata if isinstance(limit, Ge))
        high = next(limit.le for limit in field.metadata if isinstance(limit, Le))
        return f"a whole number from {low} to {high}"
    return "a table"


def _problem(error: ErrorDetails, file: Path, variables: Mapping[_Path, str]) -> str:
    """One line for one of pydantic's errors."""
    path, kind = error["loc"], error["type"]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)[1:]
    where = variables.get(path) or f"{file}: {key}"
    if kind == "extra_forbidden":
        known = [key for *table, key in _FIELDS if tuple(table) == _names(path[:-1])]
        return f"{where}: unknown key; {nearest(str(path[-1]), known)}"
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, ProblemError):
        return f"{where}: {cause}"
    found = "nothing" if kind == "missing" else shown(error["input"])
    return f"{where}: found {found}; allowed: {_allowed(_field_at(path))}"


def _cross_checks(raw: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong between tables; reads raw values, so that it speaks beside other errors."""
    first: dict[str, int] = {}
    for index, name in _texts(raw, "accounts", "name"):
        if (other := first.setdefault(name, index)) != index:
            yield (
                f"accounts[{index}].name: found {shown(name)}, which accounts[{other}] has; "
                "allowed: a name of its own"
            )
    for index, name in _texts(raw, "targets", "account"):
        if name not in first:
            where = f"targets[{index}].account: found {shown(name)}, no account's name"
            yield f"{where}; {nearest(name, first)}"


def _texts(raw: Mapping[str, Any], table: str, key: str) -> Iterator[tuple[int, str]]:
    rows = raw.get(table)
    for index, row in enumerate(rows if isinstance(rows, list) else []):
        if isinstance(row, dict) and isinstance(row.get(key), str):
            yield index, row[key]


def _all_at_once(problems: Iterable[str]) -> ConfigurationError:
    lines = [printable(line) for line in dict.fromkeys(problems)]
    more = [f"and {len(lines) - _MAX_ERRORS} more"] if len(lines) > _MAX_ERRORS else []
    return ConfigurationError("\n".join(lines[:_MAX_ERRORS] + more))

"""The audit rules: SQL files with a header, run unchanged on every database.

A rule is one file of `rules/`. Its header is comments `-- key: text`, continued on lines that
begin with `--` and three spaces:

    id, title, severity      the severity is info, low, medium or high
    rationale, remedy        why it matters, and what to do about a finding
    source                   where the rule, or the data in it, comes from
    parameter NAME = VALUE   a number or a list of texts in TOML, and after a colon its meaning
    moment NAME: now - DAYS  the time that lies the parameter DAYS back (`+`: ahead)
    date NAME: now + DAYS    the same as a text `YYYY-MM-DD`

The statement refers to parameters, moments and dates as `:NAME`. Each row it gives is a finding:
account, region, image_id, reason, and the run that is the evidence (run_id: the one that first saw
what is found, or that made the last attempt, not one that only planned it; NULL when its
observations were pruned).
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import takewhile
from typing import Final, NamedTuple

from collector.errors import ConfigurationError, UsageError
from collector.text import nearest, shown

__all__ = [
    "PLACEHOLDER",
    "SEVERITIES",
    "Bound",
    "Parameter",
    "Rule",
    "Value",
    "Values",
    "choose",
    "load_rules",
    "parameters",
    "parse",
]

SEVERITIES: Final = ("info", "low", "medium", "high")
"""From the least to the most severe."""

MAX_DAYS: Final = 36_500
"""A parameter's limit: what no database's calendar ends within."""

PLACEHOLDER: Final = re.compile(r"(?<![:\w]):([a-z_]+)")
"""A name that a statement refers to."""

Value = float | list[str]
"""A parameter's value."""

Values = Mapping[str, Value]
"""A rule's parameters by name."""

_TEXTS: Final = ("id", "title", "severity", "rationale", "remedy", "source")
_LINE = re.compile(r"-- (\w+)(?: (\w+))?(?: = (.+?))?: (.+)")
_OFFSET = re.compile(r"now ([+-]) (\w+)")


class Parameter(NamedTuple):
    """What a rule can be told, by `[audit.RULE]` in the configuration."""

    default: Value
    meaning: str


class Bound(NamedTuple):
    """A point in time that lies `sign` times the parameter's days from now."""

    kind: str
    sign: int
    parameter: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        severity: one of `SEVERITIES`.
        bounds: moments and dates by the names the statement has for them.
        sql: the statement, without its header.
    """

    id: str
    title: str
    severity: str
    rationale: str
    remedy: str
    source: str
    parameters: Mapping[str, Parameter]
    bounds: Mapping[str, Bound]
    sql: str


def parse(name: str, content: str) -> Rule:
    """Read a rule's file.

    Raises:
        ValueError: it is not as the module describes.
    """
    lines = content.rstrip().splitlines()
    header = list(takewhile(lambda line: line.startswith("--"), lines))
    sql = "\n".join(lines[len(header) :])
    texts: dict[str, str] = {}
    known: dict[str, Parameter] = {}
    bounds: dict[str, Bound] = {}
    for line in "\n".join(header).replace("\n--   ", " ").splitlines():
        match = _LINE.fullmatch(line)
        key, what, default, text = match.groups() if match else ("", None, None, line)
        if key == "parameter" and what and default:
            known[what] = Parameter(tomllib.loads(f"v = {default}")["v"], text)
        elif key in ("moment", "date") and what and (offset := _OFFSET.fullmatch(text)):
            bounds[what] = Bound(key, 1 if offset[1] == "+" else -1, offset[2])
        elif key in _TEXTS and what is None:
            texts[key] = text
        else:
            raise ValueError(f"{name}: {line!r} is no line of a header")
    used = {bounds[n].parameter if n in bounds else n for n in PLACEHOLDER.findall(sql)}
    whole = texts.keys() == set(_TEXTS) and texts["severity"] in SEVERITIES
    if not whole or texts["id"] != name or used != known.keys():
        raise ValueError(f"{name}: the header lacks a line, or its parameters are not those used")
    return Rule(**texts, parameters=known, bounds=bounds, sql=sql)


@cache
def load_rules() -> Mapping[str, Rule]:
    """Every rule by its id, the most severe first."""
    files = (resources.files("collector.audit") / "rules").iterdir()
    found = [parse(f.name[:-4], f.read_text()) for f in files if f.name.endswith(".sql")]
    found.sort(key=lambda rule: (-SEVERITIES.index(rule.severity), rule.id))
    return {rule.id: rule for rule in found}


def choose(ids: Iterable[str]) -> list[Rule]:
    """The rules of these ids; of none: all.

    Raises:
        UsageError: there is no such rule.
    """
    rules = load_rules()
    for name in ids:
        if name not in rules:
            raise UsageError(f"no rule {shown(name)}; {nearest(name, rules)}")
    wanted = set(ids) or rules.keys()
    return [rule for rule in rules.values() if rule.id in wanted]


def parameters(
    configured: Mapping[str, Values], where: Callable[..., str] = lambda *key: ".".join(key)
) -> dict[str, dict[str, Value]]:
    """Every rule's parameters, by its id: `[audit]` of the configuration over the defaults.

    Args:
        configured: the parameters that are given, by rule.
        where: what an error calls a key, such as `Settings.where`.

    Raises:
        ConfigurationError: one line for each thing that is wrong.
    """
    rules = load_rules()
    values = {
        rule.id: {n: p.default for n, p in rule.parameters.items()} for rule in rules.values()
    }
    problems = []
    for rule_id, given in configured.items():
        if rule_id not in rules:
            key = where("audit", rule_id, *list(given)[:1])
            problems.append(f"{key}: unknown rule; {nearest(rule_id, rules)}")
            continue
        known = values[rule_id]
        for name, value in given.items():
            key = where("audit", rule_id, name)
            if name not in known:
                problems.append(f"{key}: unknown parameter; {nearest(name, known)}")
            elif allowed := _refusal(known[name], value):
                problems.append(f"{key}: found {shown(value)}; allowed: {allowed}")
            else:
                known[name] = value
    if problems:
        raise ConfigurationError("\n".join(problems))
    return values


def _refusal(default: Value, value: object) -> str | None:
    """What is allowed instead of a value that is not of the default's type; None if it is."""
    if isinstance(default, list):
        fits = isinstance(value, list) and all(map(_is_text, value))
        return None if fits else "a list of texts without backslashes and control characters"
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_DAYS:
        return None
    return f"a number from 0 to {MAX_DAYS}"


def _is_text(value: object) -> bool:
    # A backslash in a literal means one thing to MariaDB and another to the others.
    return isinstance(value, str) and value.isprintable() and "\\" not in value

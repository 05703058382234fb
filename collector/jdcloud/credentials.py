"""Access keys from the environment, the official command line's file or a private file.

The sources and their names are those of the public contract; a secret never appears in a
representation or an error.
"""

import hashlib
import os
import re
import stat
import struct
import tomllib
from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as IniError
from dataclasses import dataclass
from pathlib import Path
from string import Template

from typing_extensions import override

from collector.errors import ConfigurationError
from collector.text import os_reason

__all__ = ["Credentials", "load"]

_KEYS = ("access_key", "secret_key", "security_token")
_ALLOWED = 'allowed are "env", "jdc:PROFILE" and "file:PATH"'
_SENDABLE = re.compile(r"[\x21-\x7e]+")
_ACL_USER, _ACL_GROUP_OBJ, _ACL_GROUP = 0x02, 0x04, 0x08  # linux/posix_acl.h
_ACL_HEADER_BYTES = 4


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """One access key with its secret and, for temporary keys, its security token."""

    access_key: str
    secret_key: str
    security_token: str | None = None

    @override
    def __repr__(self) -> str:
        return f"Credentials({self.key_id})"

    @property
    def key_id(self) -> str:
        """A name for the access key that does not reveal it; also the name of its lease."""
        return "ak:" + hashlib.sha256(self.access_key.encode()).hexdigest()[:16]


def load(spec: str, *, base: Path, env: Mapping[str, str]) -> Credentials:
    """Read what an account's `credentials` setting names: `env`, `jdc:PROFILE` or `file:PATH`.

    A relative PATH starts from `base`.

    Raises:
        ConfigurationError: they are missing, unreadable, malformed or readable by others.
    """
    kind, _, rest = spec.partition(":")
    match kind:
        case "env" if spec == "env":
            return _checked({key: env.get(f"JDCLOUD_{key.upper()}") for key in _KEYS}, "env")
        case "jdc" if rest:
            return _from_jdc(rest, env)
        case "file" if rest:
            return _from_file(rest, base, env)
        case _:
            raise ConfigurationError(f"credentials: found {kind!r}; {_ALLOWED}")


def _checked(found: Mapping[str, object], source: str) -> Credentials:
    """Credentials from what a source held; `source` is a file's name, or `env`."""
    values: dict[str, str] = {}
    for key in _KEYS:
        value = found.get(key)
        name = f"JDCLOUD_{key.upper()}" if source == "env" else f"{source}: {key}"
        if value is None or value == "":
            if key != "security_token":
                raise ConfigurationError(f"{name} is missing or empty")
        elif not isinstance(value, str):
            raise ConfigurationError(f"{name}: found {type(value).__name__}, allowed is text")
        elif not _SENDABLE.fullmatch(value):
            raise ConfigurationError(
                f"{name}: found a space, a control or a non-ASCII character; "
                "allowed are visible ASCII characters"
            )
        else:
            values[key] = value
    return Credentials(**values)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {os_reason(error)}") from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: is not UTF-8 text") from None


def _from_jdc(profile: str, env: Mapping[str, str]) -> Credentials:
    """A profile of `jdc configure`."""
    home = env.get("HOME")
    if not home:
        raise ConfigurationError("credentials jdc: HOME is not set; use env or file: instead")
    # Interpolation is off because a secret may hold a percent sign.
    parser = ConfigParser(interpolation=None)
    path = Path(home, ".jdc", "config")
    try:
        parser.read_string(_read(path))
    except IniError as error:
        # Its text quotes the line, which may hold the secret.
        bad = getattr(error, "errors", None)
        line = bad[0][0] if bad else getattr(error, "lineno", "?")
        raise ConfigurationError(f"{path}: line {line} is malformed") from None
    if profile != parser.default_section and not parser.has_section(profile):
        known = ", ".join(parser.sections()) or "none"
        raise ConfigurationError(f"{path}: has no profile {profile!r}; profiles: {known}")
    section = parser[profile]
    return _checked({key: section.get(key) for key in _KEYS}, f"{path}: [{profile}]")


def _from_file(pattern: str, base: Path, env: Mapping[str, str]) -> Credentials:
    """A TOML file of our own, which only its owner may read."""
    try:
        path = base / Template(pattern).substitute(env)
    except KeyError as error:
        raise ConfigurationError(
            f"credentials file:{pattern}: ${error.args[0]} is not set"
        ) from None
    except ValueError:
        raise ConfigurationError(
            f"credentials file:{pattern}: a $ must begin a variable's name; $$ is a dollar sign"
        ) from None
    try:
        exposed = _exposed(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {os_reason(error)}") from error
    if exposed:
        raise ConfigurationError(
            f"{path}: mode {exposed:04o} lets others than its owner in; allowed are 0600 and 0400"
        )
    try:
        found = tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        # Only where it is: the rest of the text may quote the secret.
        where = re.search(r"\(at [^)]*\)$", str(error))
        raise ConfigurationError(
            f"{path}: is not TOML {where[0] if where else ''}".rstrip()
        ) from None
    if unknown := sorted(set(found) - set(_KEYS)):
        # Behind "secret_key," the name that follows would be masked as a secret.
        allowed = " and ".join(_KEYS)
        raise ConfigurationError(f"{path}: unknown key {unknown[0]!r}; allowed are {allowed}")
    return _checked(found, str(path))


def _exposed(path: Path) -> int:
    """The file's mode when group or others have any right on it, else 0.

    With an access list, as systemd sets one on the credentials it passes to a service, the group
    bits of the mode are the list's mask and not a right of the group.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & 0o077:
        return 0
    if mode & 0o007:
        return mode
    try:
        entries = os.getxattr(path, "system.posix_acl_access")[_ACL_HEADER_BYTES:]
    except (OSError, AttributeError):  # there is no list, or the system has none
        return mode
    for tag, rights, user in struct.iter_unpack("<HHI", entries):
        if rights and tag in (_ACL_GROUP_OBJ, _ACL_GROUP):
            return mode
        if rights and tag == _ACL_USER and user not in (0, os.geteuid()):
            return mode
    return 0

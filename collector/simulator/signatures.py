"""Judges a request's signature as JD Cloud's gateway does (Authorization-Rules page, SDKs).

Written without a look at this package's own signer, so that the two can disagree.
"""

import base64
import hmac
import re
from calendar import timegm
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import quote, unquote, unquote_plus

from multidict import CIMultiDictProxy

__all__ = ["MAX_SKEW_S", "Claim", "Verifier", "read_claim"]

MAX_SKEW_S = 15 * 60
"""How far a request's date may be from the gateway's clock (seconds), as in object storage."""

MAX_NONCES = 200_000
"""How many of the latest nonces are remembered (about 30 MB)."""

_AUTHORIZATION = re.compile(
    r"(JDCLOUD[23])-HMAC-SHA256\s+Credential=([^/,\s]+)/(\d{8})/([^/,\s]+)/([^/,\s]+)/([^/,\s]+)"
    r"\s*,\s*SignedHeaders=([^,\s]+)\s*,\s*Signature=([0-9a-f]{64})"
)
_DATE = "%Y%m%dT%H%M%SZ"


class Claim(NamedTuple):
    """What an Authorization header says of its request."""

    version: str
    access_key: str
    date: str
    region: str
    service: str
    term: str
    signed_headers: str
    signature: str


def read_claim(authorization: str | None) -> Claim | None:
    """The parts of an Authorization header; None when it is missing or of another form."""
    match = _AUTHORIZATION.fullmatch(authorization or "")
    return Claim(*match.groups()) if match else None


class Verifier:
    """Says why a request is refused, if it is; remembers nonces.

    Attributes:
        credentials: secret key by access key; may be changed at any time.
    """

    def __init__(
        self, credentials: Mapping[str, str], security_token: str | None, service: str = "vm"
    ) -> None:
        self.credentials = dict(credentials)
        self._service = service
        token = security_token or ""
        self._tokens = (token, base64.b64encode(token.encode()).decode()) if token else ()
        self._nonces: dict[tuple[str, str], None] = {}

    def refusal(  # noqa: PLR0911 - one return a reason
        self,
        claim: Claim | None,
        method: str,
        target: str,
        headers: CIMultiDictProxy[str],
        body: bytes,
        *,
        region: str,
        now: float,
    ) -> str | None:
        """The gateway's message for a request it refuses with 401, else None.

        `target` is path and query as received, `region` the one the path names, `now` the
        gateway's clock (Unix seconds).
        """
        if claim is None:
            return "lack of header authorization[gw]"
        date, nonce = headers.get("x-jdcloud-date", ""), headers.get("x-jdcloud-nonce", "")
        sent = _timestamp(date)
        if sent is None or not nonce:
            return "lack of header x-jdcloud-date or x-jdcloud-nonce [gw]"
        if abs(now - sent) > MAX_SKEW_S:
            return "request time is too skewed [gw]"
        secret = self.credentials.get(claim.access_key)
        if secret is None:
            return "access key is not found [gw]"
        term = f"{claim.version.lower()}_request"
        if claim[2:6] != (date[:8], region, self._service, term):
            return "credential scope is not valid [gw]"
        canonical = _canonical_request(claim, method, target, headers, body)
        if canonical is None:
            return "a signed header is missing [gw]"
        digest = sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
        scope = "/".join(claim[2:6])
        text = f"{claim.version}-HMAC-SHA256\n{date}\n{scope}\n{digest}"
        key = _signing_key(claim.version + secret, date[:8], region, self._service, term)
        if not hmac.compare_digest(
            hmac.digest(key, text.encode(), "sha256").hex(), claim.signature
        ):
            return "sign result is not same [gw]"
        if self._tokens and headers.get("x-jdcloud-security-token", "") not in self._tokens:
            return "security token is not valid [gw]"
        return self._repeated(claim.access_key, nonce)

    def _repeated(self, access_key: str, nonce: str) -> str | None:
        if (access_key, nonce) in self._nonces:
            return "nonce is repeated [gw]"
        if len(self._nonces) >= MAX_NONCES:
            del self._nonces[next(iter(self._nonces))]
        self._nonces[access_key, nonce] = None
        return None


@lru_cache(maxsize=256)
def _timestamp(text: str) -> int | None:
    try:
        return timegm(datetime.strptime(text, _DATE).timetuple())  # noqa: DTZ007 - it is UTC
    except ValueError:
        return None


@lru_cache(maxsize=256)
def _signing_key(start: str, *steps: str) -> bytes:
    key = start.encode()
    for step in steps:
        key = hmac.digest(key, step.encode(), "sha256")
    return key


def _canonical_request(
    claim: Claim, method: str, target: str, headers: CIMultiDictProxy[str], body: bytes
) -> str | None:
    lines = []
    for name in claim.signed_headers.split(";"):
        values = headers.getall(name, None)
        if values is None:
            return None
        lines.append(f"{name}:{','.join(value.strip() for value in values)}\n")
    path, _, query = target.partition("?")
    # The SDKs of version 3 read `+` as a space in the path too, collapse slashes there, and skip
    # parameters without `=`; those of version 2 give them an empty value.
    if third := claim.version == "JDCLOUD3":
        path = re.sub("/+", "/", unquote_plus(path))
    pairs = sorted(
        [quote(unquote_plus(part), safe="~") for part in pair.partition("=")[::2]]
        for pair in query.split("&")
        if pair and ("=" in pair or not third)
    )
    return "\n".join(
        (
            method,
            quote(path if third else unquote(path), safe="/~"),
            "&".join(f"{name}={value}" for name, value in pairs),
            "".join(lines),
            claim.signed_headers,
            sha256(body).hexdigest(),
        )
    )

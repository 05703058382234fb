"""Sends one signed GET and returns what it brought; the rules are those of the public contract.

One attempt is at most one request on the wire: no redirect is followed, and aiohttp's own
repetition on a kept-alive connection that turns out closed is off, because a repeated request
would pass no gate, reuse its nonce and be counted nowhere.
"""

import os
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final, Self
from urllib.request import getproxies, proxy_bypass
from weakref import WeakSet

import aiohttp
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from typing_extensions import override
from yarl import URL

from collector import __version__
from collector.errors import ConfigurationError
from collector.jdcloud.credentials import Credentials
from collector.jdcloud.protocol import Call, Reply, classify, clean, http_date
from collector.jdcloud.signing import Scheme, TokenEncoding, sign, wire_path, wire_query
from collector.models import Outcome
from collector.text import os_reason, passwords_of, redact

__all__ = ["SERVICE", "Client", "Signer"]

SERVICE: Final = "vm"
"""The service's name in a signature's scope."""

_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "User-Agent": f"collector/{__version__}",
}
_OK = 200
_SERVER_ERRORS = 500
_on_departure: ContextVar[Callable[[], None] | None] = ContextVar("on_departure", default=None)
_fresh: ContextVar[bool] = ContextVar("fresh", default=False)


class Signer:
    """What an account's requests have in common: its keys, its endpoint, how they are signed.

    Of an endpoint `https://host[:port][/prefix]` the prefix is sent and signed as part of the path.

    Attributes:
        proxy: the way to the endpoint, when the environment names one.

    Raises:
        ConfigurationError: the environment names a proxy that cannot be used.
    """

    __slots__ = ("_base", "_host", "_prefix", "_scheme", "_token_encoding", "credentials", "proxy")

    def __init__(
        self,
        credentials: Credentials,
        endpoint: str,
        *,
        scheme: Scheme = "JDCLOUD2",
        token_encoding: TokenEncoding = "raw",  # noqa: S107 - not a password
    ) -> None:
        url = URL(endpoint)
        self.credentials = credentials
        self.proxy = _proxy_to(url)
        self._base = url.origin()
        self._host = url.host_port_subcomponent or ""
        self._prefix = url.path.rstrip("/")
        self._scheme = scheme
        self._token_encoding = token_encoding

    def request(self, call: Call, *, now: datetime, nonce: str) -> tuple[URL, dict[str, str]]:
        """The address and the headers of one attempt."""
        path = self._prefix + call.path
        headers = sign(
            credentials=self.credentials,
            scheme=self._scheme,
            method="GET",
            host=self._host,
            path=path,
            query=call.query,
            region=call.region,
            service=SERVICE,
            now=now,
            nonce=nonce,
            token_encoding=self._token_encoding,
        )
        # Encoded here and taken as it is, so that what is sent is what was signed.
        if call.query:
            address = f"{self._base}{wire_path(path)}?{wire_query(call.query)}"
            return URL(address, encoded=True), headers
        return self._base.with_path(wire_path(path), encoded=True), headers


class Client:
    """One session for all accounts; the callers limit rate and concurrency.

    Args:
        timeout_s: for one attempt, from the connection to the body's last byte.
        max_response_bytes: of a body, decompressed.
        tls: of certificates to trust other than the system's (which `SSL_CERT_FILE` can name);
            TLS is at least 1.2.
        guard: called synchronously before the bytes of each request go out, after a connection was
            made; what it raises is raised by `send`, and nothing is sent.

    Attributes:
        requests: how many requests went out.
    """

    def __init__(
        self,
        *,
        timeout_s: float,
        max_response_bytes: int,
        tls: ssl.SSLContext | None = None,
        guard: Callable[[], None] | None = None,
    ) -> None:
        self.requests = 0
        self._timeout_s = timeout_s
        self._max_response_bytes = max_response_bytes
        self._tls = tls
        self._guard = guard
        self._last_date: tuple[str, datetime] | None = None
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        tls = self._tls or ssl.create_default_context()
        tls.minimum_version = max(tls.minimum_version, ssl.TLSVersion.TLSv1_2)
        connector = _Connector(ssl=tls, limit=0, resolver=aiohttp.ThreadedResolver())
        connector.depart, connector.used = self._depart, WeakSet()
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            headers=_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(_once,),
        )
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._session.close()

    @property
    def clock_skew_s(self) -> float | None:
        """How far the endpoint's clock is ahead of ours, to a second; None before an answer."""
        if self._last_date is None:
            return None
        text, arrived = self._last_date
        date = http_date(text)
        return None if date is None else (date - arrived).total_seconds()

    async def send(
        self,
        call: Call,
        signer: Signer,
        on_departure: Callable[[], None] | None = None,
        *,
        fresh: bool = False,
    ) -> Reply:
        """Make one attempt; `on_departure` is called when the bytes go out, never when none do.

        A `fresh` one has a new connection: those that were kept alive may all be dead.

        Raises:
            LeaseLostError, UnavailableError: the guard's; nothing was sent.
        """
        _on_departure.set(on_departure)
        _fresh.set(fresh)
        url, headers = signer.request(call, now=datetime.now(UTC), nonce=os.urandom(16).hex())
        status: int | None = None
        received: Mapping[str, str] = {}
        try:
            async with self._session.get(
                url, headers=headers, allow_redirects=False, proxy=signer.proxy
            ) as response:
                status, received = response.status, response.headers
                body = await self._read(response)
        except TimeoutError:
            message = f"no complete answer within {self._timeout_s:g} s"
            return Reply(Outcome.TIMEOUT, status, error_message=message, retryable=True)
        except aiohttp.ClientHttpProxyError as error:
            return _failed(Outcome.NETWORK_ERROR, error, status)
        except (aiohttp.ClientPayloadError, aiohttp.ClientResponseError) as error:
            if status is None or status == _OK:
                return _failed(Outcome.INVALID_RESPONSE, error, status)
            body = b""  # the status says enough
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            return _failed(Outcome.NETWORK_ERROR, error, status)
        now = datetime.now(UTC)
        if date := received.get("Date"):
            self._last_date = date, now
        if body is None and status == _OK:
            message = f"over {self._max_response_bytes} bytes"
            return Reply(Outcome.INVALID_RESPONSE, status, error_message=message)
        return classify(call, status, received, body or b"", now=now)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes | None:
        """The decompressed body; None, and the connection closed, once it is over size."""
        chunks, left = [], self._max_response_bytes
        while chunk := await response.content.readany():
            chunks.append(chunk)
            left -= len(chunk)
            if left < 0:
                response.close()
                return None
        return b"".join(chunks)

    def _depart(self) -> None:
        if self._guard is not None:
            self._guard()
        self.requests += 1
        if (tell := _on_departure.get()) is not None:
            tell()


class _Connector(aiohttp.TCPConnector):
    """Calls `depart` once a request has its connection; up to the write all is synchronous."""

    depart: Callable[[], None]
    used: WeakSet[object]

    @override
    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        while _fresh.get() and connection.protocol in self.used:
            connection.close()
            connection = await super().connect(req, traces, timeout)
        self.used.add(connection.protocol)
        try:
            self.depart()
        except BaseException:
            connection.close()
            raise
        return connection


class _BrokenConnectionError(aiohttp.ClientConnectionError):
    """A connection that broke under a request, as an error that aiohttp does not act upon."""


async def _once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """A middleware that hides from aiohttp the errors upon which it would send a GET again."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _BrokenConnectionError(str(error)) from error


def _proxy_to(url: URL) -> URL | None:
    """The proxy that `https_proxy` names, unless `no_proxy` names the host.

    Never for `http://`, which may not leave the machine. aiohttp's `trust_env` would also look for
    passwords in a `.netrc`.
    """
    address = getproxies().get("https", "")
    if url.scheme != "https" or not address or proxy_bypass(url.host_port_subcomponent or ""):
        return None
    address = address if "://" in address else f"http://{address}"
    redact(*passwords_of(address))
    with suppress(ValueError):
        proxy = URL(address)
        if proxy.scheme == "http" and proxy.host:
            return proxy
    raise ConfigurationError(
        "https_proxy: found a proxy that cannot be used; "
        "allowed: http:// and HOST:PORT or USER:PASSWORD@HOST:PORT"
    )


def _reason(error: Exception) -> str:
    """What went wrong, in words for a person; aiohttp's own are about its arguments."""
    match error:
        case aiohttp.ClientHttpProxyError():  # its text has the proxy's password
            proxy = error.request_info.real_url
            answer = f"{error.status} {error.message}"
            return f"the proxy {proxy.host}:{proxy.port} made no connection: {answer}"
        case aiohttp.ClientConnectorCertificateError():
            cause = error.certificate_error
            reason = getattr(cause, "verify_message", None) or str(cause)
        case aiohttp.ClientSSLError():
            reason = str(error.os_error)
        case aiohttp.ClientConnectorError():
            reason = os_reason(error.os_error)
        case _:
            return str(error) or type(error).__name__
    way = "the proxy " if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
    return f"cannot connect to {way}{error.host}:{error.port}: {reason}"


def _failed(outcome: Outcome, error: Exception, status: int | None) -> Reply:
    """A failure of the transport.

    A certificate that is wrong stays wrong, as does what a proxy forbids; all else may heal.
    """
    match error:
        case aiohttp.ClientConnectorCertificateError():
            retryable = False
        case aiohttp.ClientHttpProxyError():
            retryable = error.status >= _SERVER_ERRORS
        case _:
            retryable = True
    return Reply(outcome, status, error_message=clean(_reason(error)), retryable=retryable)

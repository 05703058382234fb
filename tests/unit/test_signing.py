"""Signing against published vectors, the official SDK's signer and a recorded file a stage."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jdcloud_sdk.core.credential import Credential
from jdcloud_sdk.core.logger import FATAL, Logger
from jdcloud_sdk.core.signer import Signer as SdkSigner
from jdcloud_sdk.core.util import base64encode

from collector.jdcloud import signing
from collector.jdcloud.credentials import Credentials

DATA = Path(__file__).parent.parent / "data" / "signing"
CASES = sorted(path.parent.name for path in DATA.glob("*/request.json"))
SDK_CASES = json.loads((DATA / "python_sdk.json").read_text("utf-8"))["cases"]
NOW = datetime(2026, 11, 24, 8, 56, 25, tzinfo=UTC)
NONCE = "55f3919e-3a7d-4174-b117-f150ff25e274"

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
segments = st.lists(text, max_size=5)
queries = st.lists(st.tuples(text, text), max_size=6).map(tuple)
keys = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)


def case(name: str) -> dict[str, Any]:
    request = json.loads((DATA / name / "request.json").read_text("utf-8"))
    request["query"] = tuple(tuple(pair) for pair in request["query"])
    request["date"] = request["headers"]["x-jdcloud-date"]
    return request


def golden(name: str, stage: str) -> str:
    return (DATA / name / f"{stage}.txt").read_text("utf-8").removesuffix("\n")


def sign(
    *,
    scheme: signing.Scheme = "JDCLOUD2",
    credentials: Credentials = Credentials("ak", "sk"),  # noqa: B008 - frozen
    path: str = "/v1/regions/cn-north-1/images/img-m5s0000029",
    query: signing.Query = (),
    host: str = "vm.jdcloud-api.com",
    service: str = "vm",
    now: datetime = NOW,
    nonce: str = NONCE,
    token_encoding: signing.TokenEncoding = "raw",
) -> dict[str, str]:
    return signing.sign(
        credentials=credentials,
        scheme=scheme,
        method="GET",
        host=host,
        path=path,
        query=query,
        region="cn-north-1",
        service=service,
        now=now,
        nonce=nonce,
        token_encoding=token_encoding,
    )


@pytest.mark.parametrize("name", CASES)
def test_canonical_request(name: str) -> None:
    """The first stage gives, byte for byte, the canonical request on file."""
    c = case(name)

    assert signing.canonical_request(
        scheme=c["scheme"],
        method=c["method"],
        path=c["path"],
        query=c["query"],
        headers=c["headers"],
        body=c["body"].encode(),
    ) == golden(name, "creq")


@pytest.mark.parametrize("name", CASES)
def test_string_to_sign(name: str) -> None:
    """The second stage gives the string on file for the canonical request on file."""
    c = case(name)
    scope = signing.credential_scope(c["scheme"], c["date"][:8], c["region"], c["service"])

    found = signing.string_to_sign(c["scheme"], c["date"], scope, golden(name, "creq"))

    assert found == golden(name, "sts")


@pytest.mark.parametrize("name", CASES)
def test_signing_key(name: str) -> None:
    """The third stage derives the key on file, and again from its cache."""
    c = case(name)
    args = (c["scheme"], c["secret_key"], c["date"][:8], c["region"], c["service"])

    assert signing.signing_key(*args).hex() == golden(name, "key")
    assert signing.signing_key(*args) is signing.signing_key(*args)


@pytest.mark.parametrize("name", CASES)
def test_signature_and_authorization(name: str) -> None:
    """The last stages give the signature and the header on file."""
    c = case(name)
    scope = signing.credential_scope(c["scheme"], c["date"][:8], c["region"], c["service"])

    signed = signing.signature(bytes.fromhex(golden(name, "key")), golden(name, "sts"))

    assert signed == golden(name, "sig")
    assert signing.authorization(
        c["scheme"], c["access_key"], scope, ";".join(c["headers"]), signed
    ) == golden(name, "authz")


@pytest.mark.parametrize("c", SDK_CASES, ids=[c["name"] for c in SDK_CASES])
def test_vectors_of_the_python_sdk(c: dict[str, str]) -> None:
    """The JDCLOUD3 vectors that the official SDK publishes hold for what their wire forms mean."""
    pairs = (parameter.partition("=") for parameter in c["query"].split("&") if parameter)

    headers = sign(
        scheme="JDCLOUD3",
        path=unquote_plus(c["path"]),
        query=tuple((unquote_plus(name), unquote_plus(value)) for name, _, value in pairs),
        host="apigw-internal-dev.cn-north-1.jcloudcs.com:8000",
        service="apigatewaytestproductline",
        now=datetime(2019, 9, 17, 6, 47, 8, tzinfo=UTC),
        nonce=c["nonce"],
    )

    assert headers["authorization"].endswith(f"Signature={c['signature']}")


@settings(max_examples=300)
@given(segments=segments, query=queries, access=keys, secret=keys, token=st.none() | text)
def test_the_sdk_signs_the_same(
    segments: list[str], query: signing.Query, access: str, secret: str, token: str | None
) -> None:
    """Whatever path, query, token and keys: the official signer, given the wire form, agrees."""
    path = "/" + "/".join(segments)
    token = token or None
    ours = sign(
        scheme="JDCLOUD3",
        credentials=Credentials(access, secret, token),
        path=path,
        query=query,
        token_encoding="base64",
    )
    theirs = {
        "content-type": "application/json",
        "x-jdcloud-date": ours["x-jdcloud-date"],
        "x-jdcloud-nonce": NONCE,
    }
    if token is not None:
        theirs["x-jdcloud-security-token"] = base64encode(token)

    SdkSigner(Logger(FATAL)).signV3(
        method="GET",
        service="vm",
        region="cn-north-1",
        host="https://vm.jdcloud-api.com",
        path=signing.wire_path(path),
        query=signing.wire_query(query),
        headers=theirs,
        data="",
        credential=Credential(access, secret),
        security_token=theirs.get("x-jdcloud-security-token", ""),
    )

    assert ours["authorization"] == theirs["Authorization"]
    assert ours.get("x-jdcloud-security-token") == theirs.get("x-jdcloud-security-token")


@given(
    image=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    region=st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True),
)
def test_the_schemes_agree_on_image_calls(image: str, region: str) -> None:
    """For a legal region and id both schemes have the same canonical request."""
    two, three = (
        signing.canonical_request(
            scheme=scheme,
            method="GET",
            path=f"/v1/regions/{region}/images/{image}",
            query=(("ids.1", image), ("pageSize", "100")),
            headers={"host": "vm.jdcloud-api.com"},
        )
        for scheme in ("JDCLOUD2", "JDCLOUD3")
    )

    assert two == three


@pytest.mark.parametrize(
    ("part", "two", "three"),
    [
        ("path", "/a//b", "/a/b"),
        ("sort", "b-=1&b%2F=2", "b%2F=2&b-=1"),
        ("name", "=x&a=1", "a=1"),
    ],
)
def test_where_the_schemes_differ(part: str, two: str, three: str) -> None:
    """JDCLOUD3 alone collapses slashes, sorts encoded names and drops parameters without one."""
    query = {"sort": (("b-", "1"), ("b/", "2")), "name": (("", "x"), ("a", "1"))}

    def canonical(scheme: signing.Scheme) -> str:
        if part == "path":
            return signing.canonical_path(scheme, "/a//b")
        return signing.canonical_query(scheme, query[part])

    assert canonical("JDCLOUD2") == two
    assert canonical("JDCLOUD3") == three


def test_the_signed_headers() -> None:
    """Content type, host, date and nonce are signed, and the token when there is one."""
    plain = sign()
    temporary = sign(credentials=Credentials("ak", "sk", "token"))

    assert (
        "SignedHeaders=content-type;host;x-jdcloud-date;x-jdcloud-nonce, " in plain["authorization"]
    )
    assert (
        "SignedHeaders=content-type;host;x-jdcloud-date;x-jdcloud-nonce;x-jdcloud-security-token, "
        in temporary["authorization"]
    )
    assert "x-jdcloud-security-token" not in plain


@pytest.mark.parametrize(("encoding", "sent"), [("raw", "tok"), ("base64", "dG9r")])
def test_token_encodings(encoding: signing.TokenEncoding, sent: str) -> None:
    """The token is sent, and signed, raw or in base64, as configured."""
    headers = sign(credentials=Credentials("ak", "sk", "tok"), token_encoding=encoding)
    same = sign(credentials=Credentials("ak", "sk", sent), token_encoding="raw")

    assert headers["x-jdcloud-security-token"] == sent
    assert headers["authorization"] == same["authorization"]


def test_the_date_is_utc_and_the_key_is_of_its_day() -> None:
    """A local time is converted first, so that the day of the scope is the UTC day."""
    shanghai = datetime(2026, 11, 25, 7, 0, 0, 999, tzinfo=timezone(timedelta(hours=8)))

    headers = sign(now=shanghai)

    assert headers["x-jdcloud-date"] == "20261124T230000Z"
    assert "/20261124/cn-north-1/vm/jdcloud2_request," in headers["authorization"]


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": "another"},
        {"now": NOW + timedelta(seconds=1)},
        {"path": "/v1/regions/cn-north-1/images/img-other"},
        {"query": (("a", "b"),)},
        {"host": "vm.jdcloud-api.com:8443"},
        {"service": "disk"},
        {"scheme": "JDCLOUD3"},
        {"credentials": Credentials("ak", "sk2")},
        {"credentials": Credentials("ak", "sk", "token")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_everything_is_covered(change: dict[str, Any]) -> None:
    """Each part of a request changes the signature: none of it could be swapped on the way."""
    assert sign(**change)["authorization"][-64:] != sign()["authorization"][-64:]

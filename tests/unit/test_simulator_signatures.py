"""The simulator's verifier against published vectors, the official SDK's signer, and tampering."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jdcloud_sdk.core.logger import Logger
from jdcloud_sdk.core.signer import Signer
from multidict import CIMultiDict, CIMultiDictProxy

from collector.simulator.signatures import MAX_NONCES, MAX_SKEW_S, Verifier, read_claim

TARGET = "/v1/regions/cn-north-1/instances?pageNumber=2&pageSize=10"
NOW = 1522890123.0  # 2018-04-05T01:02:03Z
HEADERS = {
    "Content-Type": "application/json",
    "x-jdcloud-date": "20180405T010203Z",
    "x-jdcloud-nonce": "55f3919e-3a7d-4174-b117-f150ff25e274",
    # Published with jdcloud-sdk-rust-signer (test_sign_request_2).
    "Authorization": (
        "JDCLOUD2-HMAC-SHA256 Credential=ak/20180405/cn-north-1/service_name/jdcloud2_request, "
        "SignedHeaders=content-type;x-jdcloud-date;x-jdcloud-nonce, "
        "Signature=cea138630c57ba3de51933926e3b1657c34b4d1b6f86d360511bf40a09f63729"
    ),
}


def judge(
    headers: dict[str, str] = HEADERS,
    *,
    target: str = TARGET,
    verifier: Verifier | None = None,
    method: str = "GET",
    body: bytes = b"",
    region: str = "cn-north-1",
    now: float = NOW,
) -> str | None:
    verifier = verifier or Verifier({"ak": "sk"}, None, "service_name")
    received = CIMultiDictProxy(CIMultiDict(headers))
    claim = read_claim(headers.get("Authorization"))
    return verifier.refusal(claim, method, target, received, body, region=region, now=now)


def test_published_version_2_vector_is_accepted() -> None:
    """The vector that jdcloud-sdk-rust-signer publishes verifies."""
    assert judge() is None


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("sign result", {"target": TARGET.replace("2", "3")}),
        ("sign result", {"target": TARGET + "&a"}),
        ("sign result", {"method": "POST"}),
        ("sign result", {"body": b"x"}),
        ("sign result", {"headers": HEADERS | {"Content-Type": "text/plain"}}),
        ("sign result", {"headers": HEADERS | {"x-jdcloud-nonce": "another"}}),
        ("sign result", {"verifier": Verifier({"ak": "SK"}, None, "service_name")}),
        ("not found", {"verifier": Verifier({"AK": "sk"}, None, "service_name")}),
        ("scope", {"verifier": Verifier({"ak": "sk"}, None)}),
        ("scope", {"region": "cn-east-2"}),
        ("skewed", {"now": NOW + MAX_SKEW_S + 1}),
        ("skewed", {"now": NOW - MAX_SKEW_S - 1}),
        ("missing", {"headers": {k: v for k, v in HEADERS.items() if k != "Content-Type"}}),
        ("nonce", {"headers": {k: v for k, v in HEADERS.items() if k != "x-jdcloud-nonce"}}),
        ("date", {"headers": HEADERS | {"x-jdcloud-date": "yesterday"}}),
        ("authorization", {"headers": {}}),
        ("authorization", {"headers": HEADERS | {"Authorization": "Basic YTpi"}}),
    ],
)
def test_whatever_is_not_as_signed_is_refused(message: str, arguments: dict[str, Any]) -> None:
    """A change of anything that is signed, and a wrong key, date or scope, are refused."""
    refusal = judge(**arguments)

    assert refusal is not None
    assert message in refusal


def test_a_nonce_serves_once_and_memory_is_bounded() -> None:
    """A repeated nonce is refused; only the latest are remembered; a bad signature burns none."""
    verifier = Verifier({"ak": "sk"}, None, "service_name")
    assert judge(target="/", verifier=verifier) == "sign result is not same [gw]"
    assert judge(verifier=verifier) is None
    assert judge(verifier=verifier) == "nonce is repeated [gw]"

    for number in range(MAX_NONCES):
        assert verifier._repeated("ak", str(number)) is None

    assert len(verifier._nonces) == MAX_NONCES
    assert judge(verifier=verifier) is None


@pytest.mark.parametrize("sent", ["tok", "dG9r"])
def test_a_required_token_may_come_raw_or_in_base64(sent: str) -> None:
    """Sources disagree on the token's encoding, so both pass, and another token does not."""
    verifier = Verifier({"ak": "sk"}, "tok", "service_name")

    assert judge(HEADERS | {"x-jdcloud-security-token": "no"}, verifier=verifier) is not None
    assert judge(verifier=verifier) == "security token is not valid [gw]"
    assert judge(HEADERS | {"x-jdcloud-security-token": sent}, verifier=verifier) is None


# Without `;`: the SDK's signer loses what follows it (urlparse calls it parameters), so that it
# signs another path than it sends.
segment = st.text(st.characters(codec="utf-8", exclude_characters="?#/\\;", min_codepoint=33))


@given(
    path=st.lists(
        st.one_of(segment, st.sampled_from(["%20", "a+b", "%2F", "~", "位"])), max_size=4
    ),
    query=st.lists(
        st.tuples(
            st.text("abcXYZ019._-~", min_size=1),
            st.sampled_from(["", "1", "a%20b", "a+b", "=", "位", "%E4%BD%8D", "~*'"]),
        ),
        max_size=4,
    ),
    token=st.sampled_from(["", "dG9r"]),
)
def test_what_the_official_signer_signs_is_accepted(
    path: list[str], query: list[tuple[str, str]], token: str
) -> None:
    """Version 3 as the official SDK signs it, over paths, queries and tokens."""
    target = "/" + "/".join(path)
    if query:
        target += "?" + "&".join(f"{name}={value}" for name, value in query)
    headers = {"Content-Type": "application/json", "x-jdcloud-date": HEADERS["x-jdcloud-date"]}
    Signer(Logger(0)).sign(
        method="GET",
        service="vm",
        region="cn-north-1",
        uri=f"http://127.0.0.1:80{target}",
        headers=headers,
        data="",
        credential=SimpleNamespace(access_key="ak", secret_key="sk"),
        security_token=token,
    )
    headers["Host"] = "127.0.0.1"
    verifier = Verifier({"ak": "sk"}, None)

    assert judge(headers, target=target, verifier=verifier) is None
    changed = judge(headers, target=target + "&x=1", verifier=verifier)
    assert changed == "sign result is not same [gw]"

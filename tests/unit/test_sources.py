"""Where ids come from: what is selected, refused, digested and listed."""

import io
import os
import string
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector import config
from collector.errors import CollectorError, ConfigurationError, UnavailableError, UsageError
from collector.jdcloud.protocol import Call
from collector.models import LaneKey, Source
from collector.settings import Api, Settings
from collector.sources import CHUNK, ListingError, Selection, Sources, list_ids, plan_digest
from collector.store.writes import Tally
from tests.support.endpoint import Endpoint, error, found, serving
from tests.support.virtual_time import run_virtual

ALL = Selection()
NORTH, EAST = LaneKey("one", "cn-north-1"), LaneKey("one", "cn-east-1")
SOUTH = LaneKey("two", "cn-south-1")

HEAD = """
[[accounts]]
name = "one"
[[accounts]]
name = "two"
credentials = "file:keys.toml"
"""
TARGETS = """
[[targets]]
account = "one"
region = "cn-north-1"
images = ["img-a", "img-b"]
ids_file = "north.txt"
[[targets]]
account = "one"
region = "cn-east-1"
discover = ["private", "shared"]
[[targets]]
account = "two"
region = "cn-south-1"
images = ["img-z"]
"""


def load(directory: Path, targets: str = TARGETS) -> Settings:
    path = directory / "collector.toml"
    path.write_text(HEAD + targets)
    return config.load(path, env={})


@pytest.fixture
def configured(tmp_path: Path) -> Settings:
    (tmp_path / "north.txt").write_text("# more\nimg-c\nimg-a # again\n\n")
    return load(tmp_path)


def ids_of(sources: Sources) -> dict[LaneKey, Counter[str]]:
    """The ids by lane, with how often each comes."""
    every: dict[LaneKey, Counter[str]] = {}
    for key, ids in sources.ids():
        every.setdefault(key, Counter()).update(ids)
    return every


def digest_of(settings: Settings, selection: Selection = ALL, stdin: bytes = b"") -> str:
    with Sources.of(settings, selection, io.BytesIO(stdin)) as sources:
        return sources.digest(settings.api)


def test_the_configuration_names_images_files_and_listings(configured: Settings) -> None:
    """Without a selection every target counts, each for its account and region."""
    with Sources.of(configured, Selection()) as sources:
        every = ids_of(sources)
        assert sources.keys == [EAST, NORTH, SOUTH]
        assert sources.accounts == ["one", "two"]
        assert sources.discover == {EAST: {"private", "shared"}}
    assert set(every[NORTH]) == {"img-a", "img-b", "img-c"}
    assert set(every[SOUTH]) == {"img-z"}


@pytest.mark.parametrize(
    ("selection", "keys"),
    [
        (Selection(accounts=("two",)), [SOUTH]),
        (Selection(regions=("cn-north-1", "cn-south-1")), [NORTH, SOUTH]),
        (Selection(accounts=("one",), regions=("cn-east-1",)), [EAST]),
    ],
)
def test_account_and_region_narrow(
    configured: Settings, selection: Selection, keys: list[LaneKey]
) -> None:
    """They leave the targets that match both."""
    assert selection.narrows
    with Sources.of(configured, selection) as sources:
        assert sources.keys == keys
        assert set(ids_of(sources)) == {key for key in keys if key != EAST}


def test_what_is_asked_for_replaces_the_configuration(configured: Settings) -> None:
    """Images, a file and listings of the command line stand alone, narrowed by region."""
    lines = b"cn-south-1/img-2\ncn-north-1/img-1\r\n# none\ncn-north-1/img-1\n"
    selection = Selection(
        images=("cn-north-1/img-3",), ids_file="-", discover=("public",), accounts=("one",)
    )
    with Sources.of(configured, selection, io.BytesIO(lines)) as sources:
        every = ids_of(sources)
        south = LaneKey("one", "cn-south-1")
        assert every == {NORTH: Counter({"img-1": 2, "img-3": 1}), south: Counter({"img-2": 1})}
        assert sources.discover == {NORTH: {"public"}, EAST: {"public"}}
    narrowed = Selection(ids_file="-", accounts=("one",), regions=("cn-south-1",))
    with Sources.of(configured, narrowed, io.BytesIO(lines)) as sources:
        assert sources.keys == [south]
        assert set(ids_of(sources)) == {south}


@pytest.mark.parametrize(
    ("selection", "stdin", "text"),
    [
        (Selection(accounts=("three",)), b"", "no account 'three'; there are: one, two"),
        (Selection(images=("cn-north-1/img-1",)), b"", "--account: name one of the accounts"),
        (Selection(images=("img-1",), accounts=("one",)), b"", "allowed: REGION/ID"),
        (Selection(images=("x/i/j",), accounts=("one",)), b"", "'/' at position 2"),
        (Selection(ids_file="-", accounts=("one",)), b"", "selects no image at all"),
        (Selection(ids_file="-", accounts=("one",)), b"a/b\nx\n", "standard input: line 2: "),
        (Selection(ids_file="-", accounts=("one",)), b"a/b\n\0\n", "line 2: found byte 0x00"),
        (Selection(ids_file="", accounts=("one",)), b"", "--ids-file: Is a directory"),
        (Selection(ids_file="/none", accounts=("one",)), b"", "/none: No such file"),
        (Selection(ids_file="/", accounts=("one",)), b"", "/: Is a directory"),
        (Selection(regions=("cn-x-1",)), b"", "selects no image at all"),
        (Selection(discover=("private",), regions=("../x",)), b"", "--region: found '../x'"),
        (Selection(discover=("private",), accounts=("one",), regions=()), b"", ""),
    ],
)
def test_a_wrong_selection_is_a_usage_error(
    configured: Settings, selection: Selection, stdin: bytes, text: str
) -> None:
    """It says where, what was found and what is allowed."""
    if not text:
        with Sources.of(configured, selection) as sources:
            assert sources.keys == [EAST, NORTH]
        return
    with (
        pytest.raises(UsageError) as caught,
        Sources.of(configured, selection, io.BytesIO(stdin)),
    ):
        pass
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_account_that_is_named_twice_is_one(configured: Settings) -> None:
    """Images need one account, not one option."""
    with Sources.of(configured, Selection(("a-1/i",), accounts=("one", "one"))) as sources:
        assert sources.keys == [LaneKey("one", "a-1")]


def test_only_standard_input_needs_a_temporary_directory(
    configured: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container may have a read-only disk; what cannot be kept there is told."""
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: ["/none"])
    with Sources.of(configured, Selection()) as sources:
        assert sources.keys
    selection = Selection(ids_file="-", accounts=("one",))
    with pytest.raises(UnavailableError, match=r"^standard input cannot be kept: No usable"):
        Sources.of(configured, selection, io.BytesIO(b"a-1/i\n")).__enter__()


def test_a_configuration_whose_files_name_no_image_is_refused(
    tmp_path: Path,
) -> None:
    """It is the configuration's mistake, not the command line's."""
    (tmp_path / "none.txt").write_text("# none\n")
    target = '[[targets]]\naccount = "one"\nregion = "a-1"\nids_file = "none.txt"\n'
    with pytest.raises(ConfigurationError, match="name no image at all"):
        Sources.of(load(tmp_path, target), ALL).__enter__()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"img-a\nimg b\n", "north.txt: line 2: found 'img b'"),
        (b"img-a\ncn-north-1/img-b\n", "north.txt: line 2: "),
        (b"\x7fELF\x02\x01\x00\xff", "north.txt: line 1: "),
        (b"\xff\xfei\0m\0g\0", "north.txt: line 1: found byte 0xff"),
        (b"x" * 10_000_000, "north.txt: line 1: found over 4096 bytes"),
        (None, "north.txt: No such file or directory; allowed: a readable file of ids"),
    ],
)
def test_a_wrong_configured_file_is_a_configuration_error(
    tmp_path: Path, content: bytes | None, text: str
) -> None:
    """It names the file and the line, before anything is planned."""
    if content is not None:
        (tmp_path / "north.txt").write_bytes(content)
    settings = load(tmp_path)
    with pytest.raises(ConfigurationError) as caught, Sources.of(settings, Selection()):
        pass
    key, _, rest = str(caught.value).partition(".ids_file: ")
    assert key.endswith("collector.toml: targets[0]")
    assert text in rest
    assert len(rest) < 400


def test_a_configuration_without_targets_is_refused(tmp_path: Path) -> None:
    """There is nothing to collect; what the command line names does not need them."""
    settings = load(tmp_path, "")
    with (
        pytest.raises(ConfigurationError, match="no image to collect"),
        Sources.of(settings, Selection()),
    ):
        pass
    with Sources.of(settings, Selection(("cn-north-1/i",), accounts=("one",))) as sources:
        assert sources.keys == [NORTH]


def test_standard_input_is_kept_until_the_end(configured: Settings) -> None:
    """It is read once; its ids can be read again as long as the block lasts, and no longer."""
    selection = Selection(ids_file="-", accounts=("one",))
    stdin = io.BytesIO(b"cn-north-1/img-1\n" * 3)
    with Sources.of(configured, selection, stdin) as sources:
        (file,) = sources.files
        assert ids_of(sources) == ids_of(sources) == {NORTH: Counter({"img-1": 3})}
        assert file.path.exists()
    assert not file.path.exists()


def test_long_files_are_handed_on_in_pieces(configured: Settings) -> None:
    """No piece is longer than CHUNK, so memory does not grow with the file."""
    count = 2 * CHUNK + 7
    lines = b"".join(b"cn-%s-1/img-%d\n" % (b"ns"[n % 2 :][:1], n) for n in range(count))
    with Sources.of(
        configured, Selection(ids_file="-", accounts=("one",)), io.BytesIO(lines)
    ) as sources:
        sizes = [len(ids) for _, ids in sources.ids()]
    assert max(sizes) <= CHUNK
    assert sum(sizes) == count


HOW = {
    *("endpoint", "rate_limit", "account_rate_limit", "signature", "security_token_encoding"),
    *("concurrency", "timeout", "max_attempts", "fetch", "adaptive", "max_response_bytes"),
    "deadline",
}
"""Keys of `[api]` that change how is asked, not what: a run is resumed under others."""


@pytest.mark.parametrize("key", Api.model_fields)
def test_what_is_asked_makes_another_plan(key: str) -> None:
    """A switch is part of `plan_digest`, or stands in `HOW`."""
    other = Api().model_copy(update={key: "other"})

    assert (plan_digest(other, []) == plan_digest(Api(), [])) == (key in HOW)


def test_the_digest_is_of_what_is_planned(tmp_path: Path) -> None:
    """Targets, the content of files and options change it; rates and the order of ids do not."""
    (tmp_path / "north.txt").write_text("img-c\n")
    settings = load(tmp_path)
    base = digest_of(settings)
    assert len(base) == 64
    assert digest_of(load(tmp_path, TARGETS + "[api]\nrate_limit = 1\nfetch = 'batch'\n")) == base
    swapped = TARGETS.replace('"img-a", "img-b"', '"img-b", "img-a", "img-b"')
    assert digest_of(load(tmp_path, swapped)) == base
    others = {
        digest_of(load(tmp_path, TARGETS + "[api]\nmembers = true\n")),
        digest_of(load(tmp_path, TARGETS + "[api]\ntime_zone = 'UTC'\n")),
        digest_of(load(tmp_path, TARGETS.replace("img-z", "img-y"))),
        digest_of(load(tmp_path, TARGETS.replace('"shared"', '"public"'))),
        digest_of(load(tmp_path, TARGETS.replace("cn-south-1", "cn-north-1"))),
        digest_of(settings, Selection(accounts=("one",))),
        digest_of(settings, Selection(regions=("cn-north-1",))),
    }
    assert len(others | {base}) == 8
    (tmp_path / "north.txt").write_text("img-d\n")
    assert digest_of(settings) not in others | {base}
    piped = [
        digest_of(settings, Selection(ids_file="-", accounts=("one",)), text)
        for text in (b"cn-north-1/a\n", b"cn-north-1/a\n", b"cn-north-1/b\n")
    ]
    assert piped[0] == piped[1] != piped[2]


REGIONS = st.sampled_from(["cn-north-1", "cn-east-1", "xx-1"])
ID = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=5)


@given(
    images=st.lists(st.tuples(REGIONS, ID), max_size=30),
    lines=st.lists(st.tuples(REGIONS, ID), max_size=30),
    only=st.sets(REGIONS, max_size=2),
)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=50,
)
def test_exactly_what_is_named_is_selected(
    configured: Settings,
    images: list[tuple[str, str]],
    lines: list[tuple[str, str]],
    only: set[str],
) -> None:
    """Over random targets with repetitions: no id is lost, none appears from nowhere."""
    text = "".join(f"{region}/{image_id}\n" for region, image_id in lines).encode()
    selection = Selection(
        images=tuple("/".join(pair) for pair in images),
        ids_file="-",
        regions=tuple(only),
        accounts=("one",),
    )
    expected = {pair for pair in [*images, *lines] if not only or pair[0] in only}
    if not expected:
        with (
            pytest.raises(UsageError, match="no image"),
            Sources.of(configured, selection, io.BytesIO(text)),
        ):
            pass
        return
    with Sources.of(configured, selection, io.BytesIO(text)) as sources:
        every = ids_of(sources)
        assert set(sources.keys) == set(every)
    assert {(key.region, one) for key, ids in every.items() for one in ids} == expected
    assert {key.account for key in every} == {"one"}


def listing(script: Any, source: Source = "private") -> tuple[list[str], list[Call]]:
    """What list_ids yields for an endpoint that answers as scripted, and what it asked."""

    async def main() -> tuple[list[str], list[Call]]:
        endpoint, listed = Endpoint(script=script), []
        async with serving(endpoint, max_attempts=2) as (account, lane):
            async for name, ids in list_ids(account, lane, [source], Tally()):
                assert name == source
                if isinstance(ids, ListingError):
                    ids.listed = listed
                    raise ids
                listed += ids
        return listed, [asked.call for asked in endpoint.asked]

    return run_virtual(main())


def paged(ids: Sequence[str], total: int | None = None) -> Any:
    def script(asked: Call, times: int) -> Any:
        start = (int(dict(asked.query)["pageNumber"]) - 1) * 100
        images = [{"imageId": one} for one in ids[start : start + 100]]
        return found({"images": images, "totalCount": len(ids) if total is None else total})

    return script


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250, 300])
@pytest.mark.parametrize("source", get_args(Source))
def test_a_listing_is_read_to_its_end(count: int, source: Source) -> None:
    """Page after page of 100 until the API's own count; an empty one is whole."""
    ids = [f"img-{number}" for number in range(count)]
    listed, calls = listing(paged(ids), source)
    assert listed == ids
    assert len(calls) == max(1, -(-count // 100))
    assert {dict(call.query)["imageSource"] for call in calls} == {source}
    assert {dict(call.query)["pageSize"] for call in calls} == {"100"}


@pytest.mark.parametrize(
    ("script", "text", "listed"),
    [
        (lambda *_: error(403, "HTTP_FORBIDDEN", "no"), "denied: no", 0),
        (lambda *_: error(500, "INTERNAL", "oh"), "server_error: oh", 0),
        (lambda *_: found({"images": [{"imageId": "a"}]}), "an answer without a list", 0),
        (lambda *_: found({"totalCount": 3}), "an answer without a list", 0),
        (lambda *_: found({"images": {}, "totalCount": 0}), "an answer without a list", 0),
        (paged([f"i{n}" for n in range(150)], 200), "150 images were listed where the API", 150),
        (paged([f"i{n}" for n in range(100)], 0), "100 images were listed where the API", 100),
        (
            lambda *_: found(
                {"images": [{"imageId": f"i{n}"} for n in range(100)], "totalCount": 250}
            ),
            "page 2 is page 1 again",
            100,
        ),
        (
            lambda asked, _: found(
                {
                    "images": [
                        {"imageId": f"i{int(dict(asked.query)['pageNumber']) % 2}-{n}"}
                        for n in range(100)
                    ],
                    "totalCount": 300,
                }
            ),
            "page 3 is page 1 again",
            200,
        ),
        (paged(["good", "bad id"]), "an image without a usable id", 1),
        (
            lambda *_: found({"images": [None, {"imageId": 5}, {}], "totalCount": 3}),
            "an image without a usable id",
            0,
        ),
    ],
)
def test_a_listing_that_is_not_whole_fails(script: Any, text: str, listed: int) -> None:
    """What was listed is used all the same; nobody may conclude anything from the rest."""
    with pytest.raises(ListingError) as caught:
        listing(script)
    assert text in str(caught.value)
    assert len(caught.value.listed) == listed


def shrinking(*lists: Sequence[str]) -> Any:
    """An endpoint that deletes something after each first page, until the last list."""
    pages, begun = [paged(ids) for ids in lists], 0

    def script(asked: Call, times: int) -> Any:
        nonlocal begun
        answer = pages[min(begun, len(pages) - 1)](asked, times)
        begun += dict(asked.query)["pageNumber"] == "1"
        return answer

    return script


def test_a_listing_that_shrinks_while_it_is_read_is_begun_again() -> None:
    """The first image of page 2 is on page 1 when a deletion has moved it up: nobody saw it."""
    ids = [f"img-{number}" for number in range(250)]
    listed, calls = listing(shrinking(ids, ids[1:]))
    assert set(listed) == set(ids)
    assert [dict(call.query)["pageNumber"] for call in calls] == ["1", "2", "1", "2", "3"]


def test_a_listing_that_does_not_stop_shrinking_has_failed() -> None:
    """Three times begun, it is told as what it is."""
    ids = [f"img-{number}" for number in range(250)]
    with pytest.raises(ListingError, match="counted 248 images, then 247"):
        listing(shrinking(ids, ids[1:], ids[2:], ids[3:], ids[4:]))


def test_a_page_that_fails_and_heals_is_asked_again() -> None:
    """A listing has the retries of every other call."""
    ids = [f"img-{number}" for number in range(150)]
    pages = paged(ids)
    listed, calls = listing(
        lambda asked, times: error(500, "INTERNAL") if times == 1 else pages(asked, times)
    )
    assert listed == ids
    assert len(calls) == 4


def test_an_unknown_account_is_told_before_anything_is_read(configured: Settings) -> None:
    """Standard input stays unread when the command cannot work anyway."""
    stdin = io.BytesIO(b"cn-north-1/img-1\n")
    selection = Selection(ids_file="-", accounts=("nobody",))
    with pytest.raises(CollectorError), Sources.of(configured, selection, stdin):
        pass
    assert stdin.tell() == 0


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    """What a shell passes as a pipe is planned as a file would be."""
    settings = load(tmp_path)
    plain = tmp_path / "plain.txt"
    plain.write_bytes(b"cn-north-1/a\n")
    reader, writer = os.pipe()
    os.write(writer, plain.read_bytes())
    os.close(writer)

    piped, expected = (
        digest_of(settings, Selection(ids_file=name, accounts=("one",)))
        for name in (f"/dev/fd/{reader}", str(plain))
    )

    os.close(reader)
    assert piped == expected

"""The two READMEs, and the documents they point to."""

import re
from pathlib import Path

import pytest

from collector.cli.main import COMMANDS
from collector.models import Outcome

ROOT = Path(__file__).parents[2]
READMES = ("README.md", "README.zh-CN.md")
PAGES = [
    *READMES,
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "migrations/README.md",
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md"))),
]


def blocks(name: str) -> list[str]:
    return re.findall(r"```(?:sh|text)\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


def commands(name: str) -> list[str]:
    return re.findall(r"`(collector [^`]+)`", (ROOT / name).read_text())


def test_both_languages_show_the_same_commands() -> None:
    """A command or an output that one README shows, the other shows to the letter."""
    english, chinese = (blocks(name) for name in READMES)

    assert english == chinese
    assert commands("README.md") == commands("README.zh-CN.md")


@pytest.mark.parametrize("name", [*READMES, "docs/architecture.md"])
def test_every_outcome_is_named(name: str) -> None:
    """A list of outcomes has them all."""
    text = (ROOT / name).read_text()

    assert [outcome.value for outcome in Outcome if outcome.value not in text] == []


@pytest.mark.parametrize("name", READMES)
def test_every_command_shown_exists(name: str) -> None:
    """`collector X` in a README names a command that there is."""
    shown = re.findall(r"collector ([a-z]+)", "\n".join([*blocks(name), *commands(name)]))

    assert shown
    assert set(shown) <= {*COMMANDS, "db"}


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name: str) -> None:
    """A relative link names a file of the repository, and a heading that the page has."""
    page = ROOT / name
    links = re.findall(r"\]\((?!https?://|mailto:)([^)#\s]*)#?([^)\s]*)\)", page.read_text())
    targets = [(page.parent / path if path else page, heading) for path, heading in links]

    assert [str(target) for target, _ in targets if not target.exists()] == []
    assert [link for link in targets if link[1] and link[1] not in anchors(link[0])] == []


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

"""What is generated from the models and rules is what lies in the repository."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from collector.audit.catalogue import load_rules
from collector.store.evidence import KINDS
from collector.store.schema import metadata
from collector.store.views import CREATE_VIEWS, VIEWS

ROOT = Path(__file__).parents[2]


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = _load()


@pytest.mark.parametrize("path", [str(p.relative_to(ROOT)) for p in BUILD.documents()])
def test_generated_files_are_current(path: str) -> None:
    """After a change of a model, view, rule or question: `make docs`."""
    assert (ROOT / path).read_text() == BUILD.documents()[ROOT / path], "run `make docs`"


def test_every_table_column_has_a_meaning() -> None:
    """Nothing stands in the dictionary without saying what it is."""
    columns = [column for table in metadata.tables.values() for column in table.columns]

    assert [str(column) for column in columns if not column.doc] == []
    assert all(table.comment for table in metadata.tables.values())


def test_every_view_and_its_columns_have_a_meaning() -> None:
    """Views too, and computed columns; no meaning is left over."""
    used = set()
    for name, view in CREATE_VIEWS.items():
        for column in view.selectable.selected_columns:
            text, _, origin = BUILD.meaning(name, column)
            assert text, f"{name}.{column.name}"
            used |= {f"{name}.{column.name}"} if origin == "computed" else set()

    assert BUILD.VIEW_MEANINGS.keys() == VIEWS.keys()
    assert BUILD.COMPUTED.keys() == used


def test_the_dictionary_has_every_column_once() -> None:
    """Headings are tables and views, rows are their columns."""
    parts = (ROOT / "docs" / "dictionary.md").read_text().split("\n### ")[1:]
    found = {
        part.splitlines()[0]: re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE) for part in parts
    }
    tables = {**metadata.tables, **VIEWS}

    assert found == {name: list(table.columns.keys()) for name, table in tables.items()}


def test_the_diagram_shows_every_foreign_key() -> None:
    """One line each."""
    keys = [key for table in metadata.tables.values() for key in table.foreign_keys]
    text = (ROOT / "docs" / "diagram.md").read_text()

    assert text.count("--o{") == len(keys)


def test_every_kind_of_evidence_is_named() -> None:
    """In the meaning of `run_blocks.kind`, and on the page about evidence."""
    texts = (
        metadata.tables["run_blocks"].c.kind.doc,
        (ROOT / "docs/tamper-evidence.md").read_text(),
    )

    assert [kind for kind in KINDS for text in texts if f"`{kind}`" not in str(text)] == []


def test_the_datasette_file_has_every_rule_and_question() -> None:
    """Rules by `audit_` and their id, with their parameters; the twenty questions by number."""
    content = yaml.safe_load((ROOT / "config" / "datasette.yaml").read_text())
    queries = content["databases"]["collector"]["queries"]
    rules = {f"audit_{rule.id}": list(rule.parameters) for rule in load_rules().values()}

    assert {n: q["params"] for n, q in queries.items() if n.startswith("audit_")} == rules
    assert [name for name in queries if name not in rules] == [
        f"question_{number + 1:02}" for number in range(20)
    ]
    assert all(query["description"] for query in queries.values())


def test_the_rules_page_can_be_linked_to() -> None:
    """Every link of its table leads to a heading."""
    text = (ROOT / "docs" / "rules.md").read_text()

    assert set(re.findall(r"\]\(#(\w+)\)", text)) <= set(
        re.findall(r"^## (\w+)$", text, re.MULTILINE)
    )

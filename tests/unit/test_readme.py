"""README and help pages: what is derived is up to date, pictures and links are there, quoted errors are real."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from PIL import Image

from tools import readme

MAX_PICTURE_BYTES = 40_000


def constants(folder: Path) -> list[str]:
    """The string constants of the sources in a folder."""
    return [
        part.value
        for source in folder.glob("**/*.py")
        for part in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]


@pytest.fixture(scope="module")
def messages(repository: Path) -> list[str]:
    return constants(repository / "nodes") + constants(repository / "sf_model")


def quotes(text: str) -> list[str]:
    """The messages that a table of troubleshooting quotes, in the first cells of its rows."""
    first_cells = re.findall(r"^\| ([^|]*`[^|]*) \|", text, re.MULTILINE)
    return [quote for cell in first_cells for quote in re.findall(r"`([^`]+)`", cell)]


def section(text: str, heading: str) -> str:
    return text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def test_what_is_derived_from_the_help_pages_is_up_to_date(repository: Path) -> None:
    assert readme.outdated(repository) == [], "run: python -m tools.readme"


def test_every_node_has_a_place_in_the_readme(repository: Path) -> None:
    tree = ast.parse((repository / "nodes" / "__init__.py").read_text(encoding="utf-8"))
    (listed,) = [part.value for part in tree.body if isinstance(part, ast.AnnAssign)]
    nodes = [name.id for name in listed.elts]  # type: ignore[attr-defined]
    assert sorted(readme.ORDER) == sorted(nodes)
    assert sorted(page.parent.name for page in (repository / "web" / "docs").glob("*/en.md")) == sorted(nodes)


@pytest.mark.parametrize("node_id", readme.ORDER)
def test_every_page_has_a_small_picture_of_its_graph(repository: Path, node_id: str) -> None:
    page = readme.read_page(repository, node_id)
    assert page.sections[readme.GRAPH].startswith(page.picture)
    path = repository / "web" / "docs" / node_id / "graph.png"
    assert path.stat().st_size < MAX_PICTURE_BYTES
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 100
        assert len(picture.getcolors() or ()) > 8, "an empty canvas"


@pytest.mark.parametrize("node_id", readme.ORDER)
def test_pages_quote_messages_that_exist(repository: Path, node_id: str, messages: list[str]) -> None:
    found = quotes(readme.read_page(repository, node_id).sections["Troubleshooting"])
    assert found
    assert [quote for quote in found if not any(quote in message for message in messages)] == []


def test_the_readme_quotes_messages_that_exist(repository: Path, messages: list[str]) -> None:
    found = quotes(section((repository / "README.md").read_text(encoding="utf-8"), "Troubleshooting"))
    assert len(found) > 10
    assert [quote for quote in found if not any(quote in message for message in messages)] == []


def test_links_and_pictures_of_the_readme_exist(repository: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    assert {"CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff"} <= set(targets)
    assert [target for target in targets if not (repository / target).exists()] == []
    # Pictures come first.
    assert re.match(r"# [^\n]+\n\n!\[", text)


def test_the_parts_of_a_page_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "web" / "docs" / "X"
    folder.mkdir(parents=True)
    text = (
        "# A title\n\nFirst.\n\nSecond.\n\n## Inputs\n\n"
        "| name | what it is |\n| --- | --- |\n| **a**, **b** | One `|`. |\n"
        "| **c** | Two **d**. |\n\n## Outputs\n\nNone.\n\n## A minimal graph\n\nx\n\n## Troubleshooting\n\ny\n"
    )
    (folder / "en.md").write_text(text, encoding="utf-8")
    page = readme.read_page(tmp_path, "X")
    assert (page.title, page.summary) == ("A title", "First.")
    assert page.names("Inputs") == ["a", "b", "c"]
    assert page.names("Outputs") == []
    (folder / "en.md").write_text(text.replace("## Outputs", "## Output"), encoding="utf-8")
    with pytest.raises(ValueError, match="Outputs"):
        readme.read_page(tmp_path, "X")

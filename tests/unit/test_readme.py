"""README and help pages: what is derived is up to date, pictures and links are there, quoted errors are real."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from tests.host.help_graphs import graph_digest
from tests.pack_copies import local_targets
from tools import readme

MAX_PICTURE_BYTES = 60_000


def strings(node: ast.AST) -> list[str]:
    return [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def names(nodes: Iterable[ast.AST]) -> set[str]:
    return {part.id for node in nodes for part in ast.walk(node) if isinstance(part, ast.Name)}


def raised(node: ast.AST) -> list[ast.expr]:
    return [part.exc for part in ast.walk(node) if isinstance(part, ast.Raise) and part.exc is not None]


def parameters(function: ast.FunctionDef) -> set[str]:
    return {argument.arg for argument in function.args.args + function.args.kwonlyargs}


def told(sources: Iterable[str]) -> list[str]:
    """The strings of Python sources that can be part of what a user is told.

    They stand in a `raise` or a call of `warn`; in what a function that returns a text returns (validation); or they
    get there by a variable, or by a parameter that a `raise` uses. Docstrings, tooltips and log lines do not count.
    """
    parts = [part for source in sources for part in ast.walk(ast.parse(source))]
    functions = [part for part in parts if isinstance(part, ast.FunctionDef)]
    tellers = [function for function in functions if names(raised(function)) & parameters(function)]
    telling = {"warn"} | {function.name for function in tellers}
    found: list[ast.AST] = [part.exc for part in parts if isinstance(part, ast.Raise) and part.exc is not None]
    found += [default for function in tellers for default in function.args.defaults]
    found += [part for part in parts if isinstance(part, ast.Call) and names([part.func]) & telling]
    used = names(found)
    found += [part.value for part in parts if isinstance(part, ast.Assign) and names(part.targets) & used]
    for function in functions:
        if function.returns is not None and "str" in names([function.returns]):
            found += [part for part in ast.walk(function) if isinstance(part, ast.Return)]
    return [text for node in found for text in strings(node)]


@pytest.fixture(scope="module")
def messages(repository: Path) -> list[str]:
    paths = [path for folder in ("nodes", "sf_model") for path in (repository / folder).glob("**/*.py")]
    return told(path.read_text(encoding="utf-8") for path in paths)


def test_only_what_reaches_the_user_is_a_message() -> None:
    source = '''
"""a module."""
HINT = "a hint"
LABEL = "a label"

def check(what: str, remedy: str = "a remedy") -> None:
    """A docstring."""
    if what:
        raise ValueError(f"{what} is wrong: {HINT}; {remedy}")

def validate(file: str) -> bool | str:
    log("a log line")
    check(file, "an argument")
    return True if file else "a reason"
'''
    assert set(told([source])) == {" is wrong: ", "; ", "a hint", "a remedy", "an argument", "a reason"}


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
        drawn = picture.text["graph"]  # type: ignore[attr-defined]
        assert drawn == graph_digest(node_id), f"run: python -m tests.host.export_help_pictures {node_id}"


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
    targets = local_targets(text)
    assert {"CHANGELOG.md", "CITATION.cff", "docs/training.md", "workflows/text_to_image_mini.jpg"} <= set(targets)
    assert [target for target in targets if not (repository / target).exists()] == []
    # Pictures come first.
    assert re.match(r"# [^\n]+\n\n!\[", text)


def test_a_table_tells_of_every_template(repository: Path) -> None:
    table = readme.template_table(repository)
    for path in (repository / "workflows").glob("*.json"):
        assert f"`{path.stem}`" in table
    assert "`text_to_image_mini` | nothing more |" in table
    assert "`moge_2_vitl_normal_fp16.safetensors` |" in table


def test_a_summary_in_a_table_is_its_first_sentence() -> None:
    assert readme.first_sentence("Makes 64x64 pixels,\nin 1.5 s. More.") == "Makes 64x64 pixels, in 1.5 s."
    assert readme.first_sentence("Writes the depth:") == "Writes the depth."


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

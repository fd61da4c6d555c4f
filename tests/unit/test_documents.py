"""What is generated is up to date; and what no generator can see to: pictures, links, quoted errors, weights."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from sf_model.backbones.mini import MINI_DIR
from sf_model.evaluation.sampling import BUILTIN, weights_sha256
from tests.host.help_graphs import graph_digest
from tests.pack_copies import local_targets
from tools.documents import figures
from tools.documents.blocks import Page, filled
from tools.documents.help_pages import GRAPH, ORDER, read_page
from tools.documents.nodes import first_sentence
from tools.documents.writing import PAGES, generated, outdated

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

    They stand in a `raise`, a call of `warn`, a `Notice`, a `NoLayout` or among `notes`; in what a function with a text
    as its result returns; or they get there by a variable, or by a parameter that a `raise` uses. Docstrings, tooltips
    and log lines do not count.
    """
    parts = [part for source in sources for part in ast.walk(ast.parse(source))]
    functions = [part for part in parts if isinstance(part, ast.FunctionDef)]
    tellers = [function for function in functions if names(raised(function)) & parameters(function)]
    telling = {"warn", "Notice", "NoLayout", "notes"} | {function.name for function in tellers}
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


def test_the_generator_changes_nothing(repository: Path) -> None:
    found = outdated(generated(repository))
    assert [str(path.relative_to(repository)) for path in found] == [], "run: python -m tools.documents"


@pytest.mark.parametrize(("page", "lines"), [("README.md", 150), ("sf_model/mini/MODEL_CARD.md", 200)])
def test_pages_that_are_read_first_are_short(repository: Path, page: str, lines: int) -> None:
    text = (repository / page).read_text(encoding="utf-8")
    assert text.count("\n") <= lines


def test_the_reports_are_of_the_shipped_weights(repository: Path) -> None:
    """All but the controls', which compare weights that are not shipped."""
    shipped = weights_sha256(MINI_DIR)
    files = [file for file in (MINI_DIR / "reports").glob("*.json") if not file.stem.startswith(("controls", "card"))]
    assert {"minispace", "edit", "recognition", "depth"} <= {file.stem for file in files}
    for file in files:
        run = json.loads(file.read_text(encoding="utf-8"))["run"]
        weights = run["weights"] if "weights" in run else [{"directory": BUILTIN, "sha256": run["weights_sha256"]}]
        assert [(one["directory"], one["sha256"]) for one in weights] == [(BUILTIN, shipped)], file.name


def test_every_node_has_a_place_in_the_tables(repository: Path) -> None:
    tree = ast.parse((repository / "nodes" / "__init__.py").read_text(encoding="utf-8"))
    (listed,) = [part.value for part in tree.body if isinstance(part, ast.AnnAssign)]
    nodes = [name.id for name in listed.elts]  # type: ignore[attr-defined]
    assert sorted(ORDER) == sorted(nodes)
    assert sorted(page.parent.name for page in (repository / "web" / "docs").glob("*/en.md")) == sorted(nodes)


@pytest.mark.parametrize("node_id", ORDER)
def test_every_page_has_a_small_picture_of_its_graph(repository: Path, node_id: str) -> None:
    page = read_page(repository, node_id)
    assert page.sections[GRAPH].startswith(page.picture)
    path = repository / "web" / "docs" / node_id / "graph.png"
    assert path.stat().st_size < MAX_PICTURE_BYTES
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 100
        assert len(picture.getcolors() or ()) > 8, "an empty canvas"
        drawn = picture.text["graph"]  # type: ignore[attr-defined]
        assert drawn == graph_digest(node_id), f"run: python -m tests.host.export_help_pictures {node_id}"


@pytest.mark.parametrize("node_id", ORDER)
def test_pages_quote_messages_that_exist(repository: Path, node_id: str, messages: list[str]) -> None:
    cells = [message for message, _ in read_page(repository, node_id).messages()]
    quotes = [quote for cell in cells for quote in re.findall(r"`([^`]+)`", cell)]
    assert quotes
    assert [quote for quote in quotes if not any(quote in message for message in messages)] == []


@pytest.mark.parametrize("node_id", ORDER)
def test_a_page_has_one_row_for_each_input_and_output(repository: Path, node_id: str) -> None:
    """A merge can keep both versions of a row."""
    page = read_page(repository, node_id)
    for heading in ("Inputs", "Outputs"):
        names = page.names(heading)
        assert [name for name in names if names.count(name) > 1] == [], heading
        assert "|\n\n|" not in page.sections[heading], "an empty line ends a table"


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_and_pictures_of_pages_exist(repository: Path, page: str) -> None:
    path = repository / page
    targets = local_targets(path.read_text(encoding="utf-8"))
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_pictures_come_first_in_the_readme(repository: Path) -> None:
    assert re.match(r"# [^\n]+\n\n!\[", (repository / "README.md").read_text(encoding="utf-8"))


def test_a_summary_in_a_table_is_its_first_sentence() -> None:
    assert first_sentence("Makes 64x64 pixels,\nin 1.5 s. More.") == "Makes 64x64 pixels, in 1.5 s."
    assert first_sentence("Writes the depth:") == "Writes the depth."


def test_the_parts_of_a_page_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "web" / "docs" / "X"
    folder.mkdir(parents=True)
    text = (
        "# A title\n\nFirst.\n\nSecond.\n\n## Inputs\n\n"
        "| name | what it is |\n| --- | --- |\n| **a**, **b** | One `|`. |\n"
        "| **c** | Two **d**. |\n\n## Outputs\n\nNone.\n\n## A minimal graph\n\nx\n\n## Troubleshooting\n\ny\n"
    )
    (folder / "en.md").write_text(text, encoding="utf-8")
    page = read_page(tmp_path, "X")
    assert (page.title, page.summary) == ("A title", "First.")
    assert page.names("Inputs") == ["a", "b", "c"]
    assert page.names("Outputs") == []
    (folder / "en.md").write_text(text.replace("## Outputs", "## Output"), encoding="utf-8")
    with pytest.raises(ValueError, match="Outputs"):
        read_page(tmp_path, "X")


def page_with(folder: Path, text: str) -> Page:
    (folder / "page.md").write_text(text, encoding="utf-8")
    return Page(folder, folder / "page.md")


def test_a_block_is_made_anew_and_the_rest_stays(tmp_path: Path) -> None:
    text = 'a\n<!-- generated: sum one="1" two="b c" -->\nold\n<!-- end -->\nz\n'
    page = page_with(tmp_path, text)
    made = filled(page, {"sum": lambda page, one, two: f"{one}+{two}"})
    assert made == text.replace("old", "1+b c")
    with pytest.raises(ValueError, match="use one of other; there is no generated part 'sum'"):
        filled(page, {"other": lambda page: ""})
    with pytest.raises(ValueError, match="has a wrong form"):
        filled(page_with(tmp_path, "<!-- generated: sum -->\nold\n"), {"sum": lambda page: ""})


REPORT = {
    "run": {"seed": 7},
    "rows": {
        "mean depth": {"all": {"mean": 1.26, "low": 0.0, "high": 2.0}, "where found": None},
        "ceiling": {"all": {"mean": 9, "low": 8.0, "high": 10.0}, "where found": {"mean": 1, "low": 1, "high": 1}},
    },
    "SpatialFusion against": {"base": {"all": {"difference": {"mean": 1, "low": 0, "high": 2}, "ratio": None}}},
    "training_seeds": {"base": [{"all": 1.0, "pose": 2.0}, {"all": 3.0, "pose": 4.0}]},
}


def test_tables_of_a_report(tmp_path: Path) -> None:
    page = page_with(tmp_path, "")
    (tmp_path / "minispace.json").write_text(json.dumps(REPORT), encoding="utf-8")
    shown = figures.table(page, "minispace.json", "rows", heads="row").splitlines()
    assert shown[0] == "| row | all | where found |"
    assert shown[2:] == ["| mean depth | 1.3 [0.0, 2.0] | - |", "| ceiling | 9.0 [8.0, 10.0] | 1.0 [1.0, 1.0] |"]
    one = figures.table(page, "2,000=minispace.json", "rows", rows="* depth", columns="all", heads="scenes; row")
    assert one.splitlines()[2:] == ["| 2,000 | mean depth | 1.3 [0.0, 2.0] |"]
    against = figures.table(page, "minispace.json", "SpatialFusion against").splitlines()
    assert (against[0], against[2]) == ("|  | all difference | all ratio |", "| base | 1.0 [0.0, 2.0] | - |")
    trainings = figures.table(page, "minispace.json", "training_seeds", rows="base/all")
    assert trainings.splitlines()[2:] == ["| base | all | 1.0 | 3.0 |"]
    with pytest.raises(ValueError, match="there is no row .'floor'"):
        figures.table(page, "minispace.json", "rows", rows="floor")
    with pytest.raises(ValueError, match="there is no column .'pose'"):
        figures.table(page, "minispace.json", "rows", columns="pose")


def test_parameters_are_counted_in_the_header(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(4)}, tmp_path / "x.safetensors", metadata={"c": "d"})
    assert figures.parameters(tmp_path / "x.safetensors") == 10

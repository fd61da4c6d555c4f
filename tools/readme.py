"""`python -m tools.readme`: make what is derived from help pages, locales and templates. Run it after a change to one.

web/docs/<node id>/en.md is the one source of what is said about a node. From it come the tables of nodes in README.md
and, with the names and tooltips of locales/<language>, the pages in the other languages: the front end looks for a page
in its own language and not for the English one. The table of templates in README.md comes from the templates: the
heading of the note, and the models that the loaders name. Standard library only.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "<!-- {} made by `python -m tools.readme`; do not edit here. -->\n"
END = "<!-- End of the {}. -->\n"
NODES, TEMPLATES = "nodes", "templates"
GRAPH = "A minimal graph"

GROUPS = {
    "From words to depth to image": ("MiniLoader", "Loader", "PredictDepth", "ApplyDepth", "Sampler"),
    "Depth from elsewhere": ("ImageToDepth", "LoadDepth", "SaveDepth"),
    "Look at it": ("InspectDepth", "DepthToMesh"),
    "Change and mix it": ("AdjustDepth", "BlendDepth", "DepthToImages"),
    "Build it": ("ScaffoldObject", "ScaffoldMesh", "ComposeDepth"),
}
ORDER = [f"SpatialFusion{name}" for names in GROUPS.values() for name in names]


@dataclass(frozen=True)
class Page:
    """An English help page: title, introduction, and sections by heading, without blank lines at their ends."""

    node_id: str
    title: str
    introduction: str
    sections: dict[str, str]

    @property
    def summary(self) -> str:
        """The first paragraph."""
        return self.introduction.split("\n\n")[0]

    @property
    def picture(self) -> str:
        """The Markdown of its picture; the address is relative to web/docs, which is what the front end prepends."""
        return f"![{GRAPH} with {self.title}]({self.node_id}/graph.png)"

    def names(self, heading: str) -> list[str]:
        """The names in the table of inputs or outputs."""
        cells = re.findall(r"^\| (\*\*.*?) \|", self.sections[heading], re.MULTILINE)
        return [name for cell in cells for name in re.findall(r"\*\*(\w+)\*\*", cell)]


def read_page(root: Path, node_id: str) -> Page:
    """The page of a node. ValueError where it is not of the form of help pages."""
    path = root / "web" / "docs" / node_id / "en.md"
    head, *parts = re.split(r"^## ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    sections = {heading: body.strip() for heading, _, body in (part.partition("\n") for part in parts)}
    missing = {"Inputs", "Outputs", GRAPH, "Troubleshooting"} - set(sections)
    if not head.startswith("# ") or missing:
        raise ValueError(f"{path} lacks a title or the sections {sorted(missing)}")
    title, _, introduction = head.removeprefix("# ").partition("\n")
    return Page(node_id, title, introduction.strip(), sections)


def first_sentence(text: str) -> str:
    """What stands before the first full stop or colon, on one line."""
    (sentence,) = re.findall(r"\A.*?(?=[.:](?:\s|\Z))", text, re.DOTALL)
    return " ".join(sentence.split()) + "."


def node_row(page: Page) -> str:
    """A row of a table of nodes."""
    outputs = ", ".join(page.names("Outputs")) or "files"
    return f"| [{page.title}](web/docs/{page.node_id}/en.md) | {first_sentence(page.summary)} | {outputs} |"


def node_tables(root: Path) -> str:
    """A table of nodes for each group."""
    parts = []
    for group, names in GROUPS.items():
        rows = [node_row(read_page(root, f"SpatialFusion{name}")) for name in names]
        parts.append("\n".join([f"### {group}\n", "| node | what it does | gives |", "|---|---|---|", *rows, ""]))
    return "\n".join(parts)


def template_row(root: Path, name: str) -> str:
    """A row of the table of templates. ValueError for a template without a note that begins with a heading."""
    nodes = json.loads((root / "workflows" / f"{name}.json").read_text(encoding="utf-8"))["nodes"]
    notes = [node["widgets_values"][0] for node in nodes if node["type"] == "MarkdownNote"]
    if not notes or not notes[0].startswith("## "):
        raise ValueError(f"workflows/{name}.json has no note that begins with a heading")
    heading = notes[0].removeprefix("## ").partition("\n")[0]
    models = [model["name"] for node in nodes for model in node["properties"].get("models", ())]
    own = [node["widgets_values"][0] for node in nodes if node["type"] == "SpatialFusionLoader"]
    trained = ["a checkpoint that you [train](docs/training.md)"] * any(file.endswith(".safetensors") for file in own)
    needs = [*(f"`{model}`" for model in models), *trained]
    picture = f'<img src="workflows/{name}.jpg" width="320" alt="{heading}">'
    return f"| {picture} | **{heading}**<br>`{name}` | {'<br>'.join(needs) or 'nothing more'} |"


def template_table(root: Path) -> str:
    """The templates with their pictures; first those that need nothing more than the pack, from text to image."""
    names = sorted(path.stem for path in (root / "workflows").glob("*.json"))
    rows = [template_row(root, name) for name in sorted(names, key=lambda name: not name.startswith("text_to_image"))]
    rows.sort(key=lambda row: not row.endswith("| nothing more |"))
    return "\n".join(["| | template | needs |", "|---|---|---|", *rows, ""])


def replaced(text: str, kind: str, content: str) -> str:
    """The text with other content between the marks of a kind."""
    begin, end = BEGIN.format(kind.capitalize()), END.format(kind)
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"README.md lacks the marks between which the {kind} stand")
    return f"{before}{begin}\n{content}\n{end}{after}"


def readme(root: Path) -> str:
    """README.md as it should be."""
    text = (root / "README.md").read_text(encoding="utf-8")
    return replaced(replaced(text, NODES, node_tables(root)), TEMPLATES, template_table(root))


def table(entries: dict[str, dict[str, str]], words: dict[str, str]) -> str:
    """Translated inputs or outputs as a table."""
    rows = [f"| **{entry['name']}** | {entry.get('tooltip', '')} |" for entry in entries.values()]
    return "\n".join([f"| {words['name']} | {words['meaning']} |", "| --- | --- |", *rows])


def translated_page(root: Path, language: str, node_id: str) -> str:
    """The page in another language: what is translated, then the English page's further sections."""
    page = read_page(root, node_id)
    folder = root / "locales" / language
    node = json.loads((folder / "nodeDefs.json").read_text(encoding="utf-8"))[node_id]
    words = json.loads((folder / "main.json").read_text(encoding="utf-8"))["spatialfusionHelp"]
    parts = [f"# {node['display_name']}", node["description"], page.picture]
    for kind in ("inputs", "outputs"):
        parts += [f"## {words[kind]}", table(node[kind], words) if node.get(kind) else words["none"]]
    parts.append(f"*{words['english']}*")
    further = [heading for heading in page.sections if heading not in ("Inputs", "Outputs")]
    for heading in further:
        parts += [f"## {heading}", page.sections[heading].replace(page.picture, "").strip()]
    return "\n\n".join(parts) + "\n"


def derived(root: Path) -> dict[Path, str]:
    """All that is made from the pages, by path."""
    files = {root / "README.md": readme(root)}
    for folder in sorted((root / "locales").iterdir()):
        if folder.name != "en":
            pages = {
                root / "web" / "docs" / node_id / f"{folder.name}.md": translated_page(root, folder.name, node_id)
                for node_id in ORDER
            }
            files |= pages
    return files


def outdated(root: Path) -> list[Path]:
    """The derived files that are not what they should be."""
    return [
        path for path, text in derived(root).items() if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def main() -> int:
    """Write what is outdated, and say so."""
    texts = derived(ROOT)
    for path in outdated(ROOT):
        path.write_text(texts[path], encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

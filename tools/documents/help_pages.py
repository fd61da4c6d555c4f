"""The help pages of the nodes: web/docs/<node id>/en.md, and pages in other languages made from it and the locales.

The front end only looks for a page in its own language, so every language needs one.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

GRAPH = "A minimal graph"

GROUPS = {
    "From words to depth to image": ("MiniLoader", "Loader", "PredictDepth", "ApplyDepth", "Sampler"),
    "Depth from elsewhere": ("ImageToDepth", "LoadDepth", "SaveDepth"),
    "Look at it": ("InspectDepth", "DepthToMesh"),
    "Change and mix it": ("AdjustDepth", "BlendDepth", "DepthToImages"),
    "Build it": ("PlanLayout", "ScaffoldObject", "ScaffoldMesh", "ComposeDepth", "LayoutConditioning"),
}
PREFIX = "SpatialFusion"
ORDER = [f"{PREFIX}{name}" for names in GROUPS.values() for name in names]


@dataclass(frozen=True)
class HelpPage:
    """An English help page. Texts have no blank lines at their ends."""

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
        """The Markdown of its picture. The address is relative to web/docs, which the front end puts before it."""
        return f"![{GRAPH} with {self.title}]({self.node_id}/graph.png)"

    def names(self, heading: str) -> list[str]:
        """The names in the table of inputs or outputs."""
        cells = re.findall(r"^\| (\*\*.*?) \|", self.sections[heading], re.MULTILINE)
        return [name for cell in cells for name in re.findall(r"\*\*(\w+)\*\*", cell)]

    def messages(self) -> list[tuple[str, str]]:
        """(message, remedy) of the troubleshooting table."""
        return re.findall(r"^\| ([^|]*`[^|]*) \| (.*) \|$", self.sections["Troubleshooting"], re.MULTILINE)


def read_page(root: Path, node_id: str) -> HelpPage:
    """The page of a node. ValueError if it lacks a part of a help page."""
    path = root / "web" / "docs" / node_id / "en.md"
    head, *parts = re.split(r"^## ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    sections = {heading: body.strip() for heading, _, body in (part.partition("\n") for part in parts)}
    missing = {"Inputs", "Outputs", GRAPH, "Troubleshooting"} - set(sections)
    if not head.startswith("# ") or missing:
        raise ValueError(f"add to {path} a title and the missing sections {sorted(missing)}")
    title, _, introduction = head.removeprefix("# ").partition("\n")
    return HelpPage(node_id, title, introduction.strip(), sections)


def translations(root: Path) -> dict[Path, str]:
    """{file: text} of all pages in other languages."""
    languages = sorted(folder.name for folder in (root / "locales").iterdir() if folder.name != "en")
    return {
        root / "web" / "docs" / node_id / f"{language}.md": translated_page(root, language, node_id)
        for language in languages
        for node_id in ORDER
    }


def translated_page(root: Path, language: str, node_id: str) -> str:
    """The page in another language: the translated parts, then the other sections in English."""
    page = read_page(root, node_id)
    folder = root / "locales" / language
    node = json.loads((folder / "nodeDefs.json").read_text(encoding="utf-8"))[node_id]
    words = json.loads((folder / "main.json").read_text(encoding="utf-8"))["spatialfusionHelp"]
    parts = [f"# {node['display_name']}", node["description"], page.picture]
    for kind in ("inputs", "outputs"):
        parts += [f"## {words[kind]}", _table(node[kind], words) if node.get(kind) else words["none"]]
    parts.append(f"*{words['english']}*")
    further = [heading for heading in page.sections if heading not in ("Inputs", "Outputs")]
    for heading in further:
        parts += [f"## {heading}", page.sections[heading].replace(page.picture, "").strip()]
    return "\n\n".join(parts) + "\n"


def _table(entries: dict[str, dict[str, str]], words: dict[str, str]) -> str:
    """The table of translated inputs or outputs."""
    rows = [f"| **{entry['name']}** | {entry.get('tooltip', '')} |" for entry in entries.values()]
    return "\n".join([f"| {words['name']} | {words['meaning']} |", "| --- | --- |", *rows])

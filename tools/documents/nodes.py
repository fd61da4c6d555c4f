"""Lists and tables of nodes, templates and messages for README.md and docs/nodes.md."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from .blocks import Page
from .figures import markdown_table
from .help_pages import GROUPS, ORDER, PREFIX, HelpPage, read_page

NOTHING = "nothing more"
# Base models, in the order of their templates.
BASES = ("z_image_turbo", "qwen_image", "flux", "sdxl", "omnigen2")


@dataclass(frozen=True)
class Template:
    """A workflow of workflows/."""

    name: str
    title: str
    # The model files that it needs.
    models: tuple[str, ...]
    # Whether it needs a trained checkpoint.
    needs_checkpoint: bool

    @property
    def needs_nothing(self) -> bool:
        return not self.models and not self.needs_checkpoint


def first_sentence(text: str) -> str:
    """The text up to the first full stop or colon, on one line."""
    joined = " ".join(text.split())
    ends = [place for end in (". ", ": ") if (place := (joined + " ").find(end)) >= 0]
    return joined[: min(ends)] + "."


def read_template(file: Path) -> Template:
    """A template of workflows/. ValueError if it has no note that begins with a heading."""
    workflow = json.loads(file.read_text(encoding="utf-8"))
    nodes = list(workflow["nodes"])
    for subgraph in (workflow.get("definitions") or {}).get("subgraphs", ()):
        nodes += subgraph["nodes"]
    notes = [node["widgets_values"][0] for node in nodes if node["type"] == "MarkdownNote"]
    if not notes or not notes[0].startswith("## "):
        raise ValueError(f"begin the first note of {file} with a heading (##)")
    title = notes[0].removeprefix("## ").partition("\n")[0]
    models = [model["name"] for node in nodes for model in node["properties"].get("models", ())]
    checkpoints = [node["widgets_values"][0] for node in nodes if node["type"] == f"{PREFIX}Loader"]
    return Template(file.stem, title, tuple(models), any(name.endswith(".safetensors") for name in checkpoints))


def templates(root: Path) -> list[Template]:
    """All templates, those that most people can use first: see `_place`."""
    return sorted((read_template(file) for file in (root / "workflows").glob("*.json")), key=_place)


def _place(template: Template) -> tuple[int, bool, bool, str, int]:
    """Scenes by words, other templates for models that people have, the Mini, and what needs a trained checkpoint."""
    base = next((name for name in BASES if template.name.endswith(name)), "")
    kind = template.name.removesuffix(base).rstrip("_")
    if template.needs_checkpoint:
        group = 3
    elif base:
        group = 0 if kind == "plan" else 1
    else:
        group = 2
    order = BASES.index(base) if base else len(BASES)
    return group, not template.needs_nothing, kind != "text_to_image_mini", kind, order


def _needs(page: Page, template: Template) -> list[str]:
    checkpoint = [f"a checkpoint that you [train]({page.link('docs/training.md')})"] * template.needs_checkpoint
    return [*(f"`{model}`" for model in template.models), *checkpoint] or [NOTHING]


def template_list(page: Page) -> str:
    """The templates, a row for each."""
    lines = []
    for template in templates(page.root):
        checkpoint = [f"a checkpoint that you [train]({page.link('docs/training.md')})"] * template.needs_checkpoint
        files = [f"{len(template.models)} model file{'s' * (len(template.models) > 1)}"] * bool(template.models)
        lines.append((template.title, f"`{template.name}`", " and ".join([*files, *checkpoint]) or NOTHING))
    return markdown_table(("template", "file", "needs"), lines)


def template_table(page: Page) -> str:
    """The templates with pictures and the names of the files that they need."""
    rows = []
    for template in templates(page.root):
        address = page.link(f"workflows/{template.name}.jpg")
        picture = f'<img src="{address}" width="320" alt="{template.title}">'
        rows.append((picture, f"**{template.title}**<br>`{template.name}`", "<br>".join(_needs(page, template))))
    return markdown_table(("", "template", "needs"), rows)


def _help_link(page: Page, help_page: HelpPage) -> str:
    return f"[{help_page.title}]({page.link(f'web/docs/{help_page.node_id}/en.md')})"


def _grouped(root: Path) -> dict[str, list[HelpPage]]:
    return {group: [read_page(root, f"{PREFIX}{name}") for name in names] for group, names in GROUPS.items()}


def node_list(page: Page) -> str:
    """The nodes by group, with links to their pages."""
    rows = [
        (group, ", ".join(_help_link(page, help_page) for help_page in pages))
        for group, pages in _grouped(page.root).items()
    ]
    return markdown_table(("what for", "nodes"), rows)


def node_tables(page: Page) -> str:
    """For each group a table of nodes, with pictures of their graphs."""
    parts = []
    for group, pages in _grouped(page.root).items():
        rows = []
        for help_page in pages:
            address = page.link(f"web/docs/{help_page.node_id}/graph.png")
            picture = f'<a href="{address}"><img src="{address}" width="320" alt="{help_page.title}"></a>'
            gives = ", ".join(help_page.names("Outputs")) or "files"
            what = f"**{_help_link(page, help_page)}**<br>{first_sentence(help_page.summary)}"
            rows.append((picture, what, gives))
        parts.append(f"### {group}\n\n{markdown_table(('', 'node', 'gives'), rows)}")
    return "\n\n".join(parts)


def message_table(page: Page) -> str:
    """All messages in the troubleshooting of the help pages. A message of several nodes is there once."""
    nodes: dict[tuple[str, str], list[str]] = {}
    for node_id in ORDER:
        help_page = read_page(page.root, node_id)
        for entry in help_page.messages():
            nodes.setdefault(entry, []).append(_help_link(page, help_page))
    rows = [(message, ", ".join(links), remedy) for (message, remedy), links in nodes.items()]
    return markdown_table(("message", "of", "what to do"), sorted(rows, key=lambda row: row[0].strip("`").lower()))

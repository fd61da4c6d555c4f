"""The list of generated files and pages with generated parts, and which of them are out of date."""

from __future__ import annotations

from pathlib import Path

from . import figures, layouts, nodes
from .blocks import Maker, Page, filled
from .blueprints import blueprints
from .editor_data import editor_data
from .help_pages import translations

# Pages with generated parts.
PAGES = (
    "README.md",
    "docs/nodes.md",
    "docs/layouts.md",
    "docs/training.md",
    "docs/adding_a_base.md",
    "sf_model/mini/MODEL_CARD.md",
    "sf_model/mini/reports/README.md",
)
MAKERS: dict[str, Maker] = {
    "node-list": nodes.node_list,
    "node-tables": nodes.node_tables,
    "template-list": nodes.template_list,
    "template-table": nodes.template_table,
    "messages": nodes.message_table,
    "table": figures.table,
    "made-with": figures.made_with,
    "reports": figures.reports,
    "weight-files": figures.weight_files,
    "shape-table": layouts.shape_table,
    "size-table": layouts.size_rows,
    "size-counts": layouts.size_counts,
}


def generated(root: Path) -> dict[Path, str]:
    """{file: its new text}."""
    pages = {root / name: filled(Page(root, root / name), MAKERS) for name in PAGES}
    return pages | translations(root) | blueprints(root) | editor_data(root)


def outdated(texts: dict[Path, str]) -> list[Path]:
    """The files that are missing or have another text."""
    return [path for path, text in texts.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]

"""The generated parts of a Markdown page. Each is between two marks, which GitHub does not show:

    <!-- generated: table source="reports/minispace.json" section="rows" -->
    | row | all |
    ...
    <!-- end -->

The first mark names the part and its options. So a page can show another table without a change of code.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

_OPENING = "<!-- generated: "
_BLOCK = re.compile(
    rf"^(?P<mark>{_OPENING}(?P<name>[\w-]+)(?P<options>(?: \w+=\"[^\"\n]*\")*) -->)\n.*?^<!-- end -->$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Page:
    """A Markdown file of the repository at `root`."""

    root: Path
    path: Path

    def link(self, target: str) -> str:
        """The address, from this page, of a file at a path from the repository's root."""
        return Path(os.path.relpath(self.root / target, self.path.parent)).as_posix()

    def file(self, name: str) -> Path:
        """The file that a mark of this page names, relative to the page."""
        return self.path.parent / name


Maker = Callable[..., str]
"""(page, options of the mark by name) -> Markdown."""


def filled(page: Page, makers: Mapping[str, Maker]) -> str:
    """The page's text with new generated parts. ValueError for marks that cannot be read."""
    text = page.path.read_text(encoding="utf-8")

    def made(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in makers:
            raise ValueError(f"{page.path}: use one of {', '.join(makers)}; there is no generated part {name!r}")
        options = dict(re.findall(r'(\w+)="([^"]*)"', found["options"]))
        return f"{found['mark']}\n{makers[name](page, **options)}\n<!-- end -->"

    result, count = _BLOCK.subn(made, text)
    if count != text.count(_OPENING):
        raise ValueError(f"{page.path}: a mark '{_OPENING}...' has a wrong form, or no '<!-- end -->' after it")
    return result

"""`python -m tests.host.export_workflows`: write workflows/api/*.json, the API form of every template.

The newest host's real front end converts them, in headless Chromium. Run it after a change to a template.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.host.browser import Browser, HostPage
from tests.host.server import ComfyServer, Graph
from tools import hosts

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "workflows"


def template_names() -> list[str]:
    return sorted(path.stem for path in TEMPLATES.glob("*.json"))


def load_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def api_form(page: HostPage, name: str) -> Graph:
    """The API form of a template, as the front end converts it."""
    page.load_graph(load_json(TEMPLATES / f"{name}.json"))
    return page.graph_to_prompt()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = ComfyServer(ROOT, hosts.NEWEST.version, Path(folder))
        server.start()
        try:
            with Browser() as browser, browser.open(server) as page:
                for name in template_names():
                    text = json.dumps(api_form(page, name), indent=2)
                    (TEMPLATES / "api" / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        finally:
            server.stop()


if __name__ == "__main__":
    main()

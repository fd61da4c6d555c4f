"""`python -m tests.host.export_workflows [NAME ...]`: make what is derived from the templates; all of them by default.

workflows/api/*.json are the API forms, as the newest host's real front end converts them in headless Chromium;
workflows/*.jpg show a run; docs/prompt_depth_image.jpg adds the prompt to one for the README.
"""

from __future__ import annotations

import json
import sys
import textwrap

from PIL import Image, ImageDraw, ImageFont

from tests.host.browser import HostPage
from tests.host.exporting import ROOT, newest_host
from tests.host.server import ComfyServer, Graph
from tests.host.template_graphs import graph_picture
from tests.host.template_runs import TEMPLATES, checkpoints_of, provide_files, template_names, workflow
from tests.host.template_thumbnails import thumbnail

README_TEMPLATE = "text_to_image_mini"


def api_form(page: HostPage, name: str) -> Graph:
    """The API form of a template, as the front end converts it."""
    page.load_graph(workflow(name))
    return page.graph_to_prompt()


def with_prompt(picture: Image.Image, graph: Graph) -> Image.Image:
    """The picture with the graph's prompt at its left."""
    (prompt,) = [node["inputs"]["prompt"] for node in graph.values() if "prompt" in node["inputs"]]
    side = picture.height
    sheet = Image.new("RGB", (side + picture.width, side), "white")
    text = "\n".join(textwrap.wrap(prompt, 30))
    ImageDraw.Draw(sheet).multiline_text((24, 32), text, fill="black", font=ImageFont.load_default(22), spacing=10)
    sheet.paste(picture, (side, 0))
    return sheet


def export(server: ComfyServer, page: HostPage, name: str) -> None:
    """Write one template's API form and pictures."""
    graph = api_form(page, name)
    text = json.dumps(graph, indent=2)
    (TEMPLATES / "api" / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    # Not run: no checkpoint of a real base is at hand.
    picture = graph_picture(page) if any(checkpoints_of(name)) else thumbnail(server, name, graph)
    picture.save(TEMPLATES / f"{name}.jpg", quality=88)
    if name == README_TEMPLATE:
        with_prompt(picture, graph).save(ROOT / "docs" / "prompt_depth_image.jpg", quality=88)


def main(names: list[str]) -> None:
    with newest_host(provide_files) as (server, page):
        for name in names:
            export(server, page, name)


if __name__ == "__main__":
    main(sys.argv[1:] or template_names())

"""`python -m tests.host.export_workflows`: make what is derived from the templates. Run it after a change to one.

workflows/api/*.json are the API forms, as the newest host's real front end converts them in headless Chromium;
workflows/*.jpg show a run: the predicted depth, and the image; docs/prompt_depth_image.jpg adds the prompt for the
README.
"""

from __future__ import annotations

import io
import json
import tempfile
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tests.host.browser import Browser, HostPage
from tests.host.server import ComfyServer, Graph
from tools import hosts

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "workflows"
THUMBNAIL_SIZE = (768, 384)
README_TEMPLATE = "text_to_image_mini"


def template_names() -> list[str]:
    return sorted(path.stem for path in TEMPLATES.glob("*.json"))


def load_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def api_form(page: HostPage, name: str) -> Graph:
    """The API form of a template, as the front end converts it."""
    page.load_graph(load_json(TEMPLATES / f"{name}.json"))
    return page.graph_to_prompt()


def picture_of(server: ComfyServer, outputs: dict, node_id: str) -> Image.Image:
    """The first picture that a node wrote."""
    return Image.open(io.BytesIO(server.view(outputs[node_id]["images"][0]))).convert("RGB")


def thumbnail(server: ComfyServer, graph: Graph) -> Image.Image:
    """Run a template: its depth at the left, its image at the right."""
    ids = {node["class_type"]: node_id for node_id, node in graph.items()}
    outputs = server.run(graph)
    sheet = Image.new("RGB", THUMBNAIL_SIZE)
    side = THUMBNAIL_SIZE[1]
    for column, node_type in enumerate(("SpatialFusionSaveDepth", "SaveImage")):
        picture = picture_of(server, outputs, ids[node_type])
        sheet.paste(picture.resize((side, side), Image.Resampling.BICUBIC), (column * side, 0))
    return sheet


def with_prompt(picture: Image.Image, graph: Graph) -> Image.Image:
    """The picture with the graph's prompt at its left."""
    (prompt,) = [node["inputs"]["prompt"] for node in graph.values() if "prompt" in node["inputs"]]
    side = picture.height
    sheet = Image.new("RGB", (side + picture.width, side), "white")
    text = "\n".join(textwrap.wrap(prompt, 30))
    ImageDraw.Draw(sheet).multiline_text((24, 32), text, fill="black", font=ImageFont.load_default(22), spacing=10)
    sheet.paste(picture, (side, 0))
    return sheet


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = ComfyServer(ROOT, hosts.NEWEST.version, Path(folder))
        server.start()
        try:
            with Browser() as browser, browser.open(server) as page:
                for name in template_names():
                    graph = api_form(page, name)
                    text = json.dumps(graph, indent=2)
                    (TEMPLATES / "api" / f"{name}.json").write_text(text + "\n", encoding="utf-8")
                    picture = thumbnail(server, graph)
                    picture.save(TEMPLATES / f"{name}.jpg", quality=88)
                    if name == README_TEMPLATE:
                        with_prompt(picture, graph).save(ROOT / "docs" / "prompt_depth_image.jpg", quality=88)
        finally:
            server.stop()


if __name__ == "__main__":
    main()

"""`python -m tests.host.export_help_pictures [NODE ID ...]`: draw the help pages' pictures; all of them by default.

web/docs/<node id>/graph.png shows the page's minimal graph on the canvas of the newest host's real front end, after a
run. A picture with a blemish (a wire behind a node, an error mark, a message over the canvas) is not written.
"""

from __future__ import annotations

import io
import sys

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.host.browser import HostPage
from tests.host.exporting import ROOT, newest_host
from tests.host.help_graphs import GRAPHS, graph_digest, write_files
from tests.host.help_pictures import CORNER, blemishes, prepare, show
from tests.host.template_thumbnails import render_scene

MAX_BYTES = 60_000
MAX_WIDTH = 1280
MARGIN = 24
# Until images are decoded and 3D viewers have drawn.
SETTLE_MS = 2500


def compressed(picture: Image.Image, digest: str) -> bytes:
    """A PNG of at most MAX_BYTES, with as many colours as that allows, and the digest of its graph as text."""
    text = PngInfo()
    text.add_text("graph", digest)
    for width in (MAX_WIDTH, 1120, 960, 800, 640):
        small = picture
        if picture.width > width:
            height = round(picture.height * width / picture.width)
            small = picture.resize((width, height), Image.Resampling.LANCZOS)
        for colours in (256, 128, 64, 32):
            buffer = io.BytesIO()
            few = small.quantize(colours, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
            few.save(buffer, "PNG", optimize=True, pnginfo=text)
            if buffer.tell() < MAX_BYTES:
                return buffer.getvalue()
    raise ValueError(f"{picture.size} pixels do not fit into {MAX_BYTES} bytes")


def picture_of(page: HostPage, node_id: str) -> Image.Image:
    """The graph of a node's page on the canvas, with its results. ValueError where it is not fit to be seen."""
    width, height = show(page, node_id)
    page.tab.wait_for_timeout(SETTLE_MS)
    if found := blemishes(page, node_id):
        raise ValueError(f"the picture of {node_id} is not clean: {'; '.join(found)}")
    clip = {
        "x": CORNER[0] - MARGIN,
        "y": CORNER[1] - MARGIN,
        "width": width + 2 * MARGIN,
        "height": height + 2 * MARGIN,
    }
    return Image.open(io.BytesIO(page.tab.screenshot(clip=clip))).convert("RGB")


def main(node_ids: list[str]) -> None:
    depth_m = render_scene().depth_m[0].numpy()
    with newest_host(lambda server: write_files(server, depth_m)) as (_, page):
        prepare(page)
        for node_id in node_ids:
            picture = picture_of(page, node_id)
            (ROOT / "web" / "docs" / node_id / "graph.png").write_bytes(compressed(picture, graph_digest(node_id)))


if __name__ == "__main__":
    main(sys.argv[1:] or list(GRAPHS))

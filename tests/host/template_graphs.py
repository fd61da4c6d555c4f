"""Thumbnails of templates that cannot run here, for want of a checkpoint of a real base: the graph itself."""

from __future__ import annotations

import io

from PIL import Image

from tests.host.browser import HostPage
from tests.host.template_thumbnails import BACKGROUND, THUMBNAIL_SIZE

# Where on the page the front end puts nothing over the canvas: left, top, width, height.
FREE = (110, 110, 1380, 780)
MARGIN = 12
SETTINGS = {
    "Comfy.Minimap.Visible": False,
    "Comfy.VueNodes.Enabled": False,
    "Comfy.Workflow.ShowMissingModelsWarning": False,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
}
# Puts the open graph into the free part of the page, without its note, and says how large it is there.
FIT = """([left, top, width, height]) => {
    const { graph, canvas } = window.app;
    graph.nodes.filter((node) => node.type === "MarkdownNote").forEach((node) => graph.remove(node));
    const boxes = graph.groups.map((group) => [...group.pos, ...group.size]);
    boxes.push(...graph.nodes.map((node) => [...node.pos, ...node.size]));
    const x0 = Math.min(...boxes.map((box) => box[0])), y0 = Math.min(...boxes.map((box) => box[1]));
    const x1 = Math.max(...boxes.map((box) => box[0] + box[2])), y1 = Math.max(...boxes.map((box) => box[1] + box[3]));
    const scale = Math.min(1, width / (x1 - x0), height / (y1 - y0));
    canvas.deselectAll();
    canvas.background_image = "";
    canvas.clear_background_color = "#1c1c20";
    canvas.ds.scale = scale;
    canvas.ds.offset = [left / scale - x0, top / scale - y0];
    canvas.setDirty(true, true);
    return [(x1 - x0) * scale, (y1 - y0) * scale];
}"""


def graph_picture(page: HostPage) -> Image.Image:
    """The open graph, as the front end draws it, on a sheet of a thumbnail's size. The page is of no use afterwards."""
    for name, value in SETTINGS.items():
        page.tab.evaluate("([n, v]) => window.app.extensionManager.setting.set(n, v)", [name, value])
    width, height = page.tab.evaluate(FIT, list(FREE))
    page.tab.mouse.move(5, 995)
    page.tab.wait_for_timeout(1500)
    clip = {"x": FREE[0], "y": FREE[1], "width": width, "height": height}
    picture = Image.open(io.BytesIO(page.tab.screenshot(clip=clip))).convert("RGB")
    sheet = Image.new("RGB", THUMBNAIL_SIZE, BACKGROUND)
    scale = min((side - 2 * MARGIN) / length for side, length in zip(THUMBNAIL_SIZE, picture.size))
    small = picture.resize([round(length * scale) for length in picture.size], Image.Resampling.LANCZOS)
    sheet.paste(small, [(side - length) // 2 for side, length in zip(THUMBNAIL_SIZE, small.size)])
    return sheet

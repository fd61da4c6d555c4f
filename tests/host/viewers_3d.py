"""What the host's own 3D viewers draw, seen as a user sees it: in a picture of the screen."""

from __future__ import annotations

import io
import time

import numpy as np
from PIL import Image, ImageFilter

from tests.host.browser import HostPage

# Lines one pixel wide, which the viewer's own grid is made of, leave a handful where they cross.
SOMETHING_PIXELS = 100
# The viewer's buttons and axes lie along its left and lower edges.
MARGINS_PX = (80, 60, 0, 120)
SHOW_ALONE = """type => {
  const { canvas, graph } = window.app;
  const node = graph.nodes.find(node => node.type === type);
  for (const other of graph.nodes) if (other !== node) other.pos = [-4000, 0];
  node.pos = [300, 120];
  node.setSize([500, 600]);
  canvas.ds.scale = 1;
  canvas.ds.offset = [0, 0];
  canvas.setDirty(true, true);
}"""
VIEWER_BOX = """() => {
  const canvases = [...document.querySelectorAll("canvas:not(#graph-canvas, .minimap-canvas, .sf-picture)")];
  const shown = canvases.filter(canvas => canvas.checkVisibility() && canvas.getBoundingClientRect().height > 300);
  if (shown.length !== 1) return null;
  const { left, top, width, height } = shown[0].getBoundingClientRect();
  return { x: left, y: top, width, height };
}"""


def solid_pixels(picture: Image.Image) -> int:
    """How many pixels stand out from the commonest colour together with all that are around them."""
    colors = np.asarray(picture.convert("RGB")).astype(int)
    lit = np.abs(colors - np.median(colors.reshape(-1, 3), axis=0)).max(axis=-1) > 40
    return int((np.asarray(Image.fromarray(lit).convert("L").filter(ImageFilter.MinFilter(3))) > 0).sum())


def shows_something(page: HostPage, node_type: str, timeout_s: float = 60.0) -> bool:
    """Bring the only node of this type into view; whether its viewer comes to draw more than its grid."""
    page.tab.evaluate(SHOW_ALONE, node_type)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        page.tab.wait_for_timeout(500)
        box = page.tab.evaluate(VIEWER_BOX)
        if box is None:
            continue
        left, top, right, bottom = MARGINS_PX
        clip = {
            "x": box["x"] + left,
            "y": box["y"] + top,
            "width": box["width"] - left - right,
            "height": box["height"] - top - bottom,
        }
        if solid_pixels(Image.open(io.BytesIO(page.tab.screenshot(clip=clip)))) > SOMETHING_PIXELS:
            return True
    return False

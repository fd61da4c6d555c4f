"""The depth that the scene editor computes in the browser, beside the depth that the server composes."""

from __future__ import annotations

import base64
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Page, sync_playwright

from sf_model.scaffold.layout import Layout, LayoutCamera, LayoutObject, compose_layout
from sf_model.scaffold.layout_reading import read_layout
from sf_model.scaffold.shapes import named_shapes
from tools.chromium import require_chromium

# Where the host serves the folder web/.
WEB = "/extensions/ComfyUI-SpatialFusion"
GROUND_EXTENT_M = 100.0
# Depths that differ by less are the same.
SAME = 0.01
# In the page: the depth of a layout's JSON, and the object of each pixel, both as base64.
DRAW = """async ([web, text, width, height, extent]) => {
    const { loadShapes } = await import(`${web}/js/editor/shapes.js`);
    const { parseLayout } = await import(`${web}/js/editor/layout.js`);
    const { Raycaster } = await import(`${web}/js/editor/raycast.js`);
    const shapes = await loadShapes();
    const caster = new Raycaster(shapes);
    caster.draw(parseLayout(text, shapes), width, height, extent);
    const encoded = (array) => {
        const bytes = new Uint8Array(array.buffer);
        let text = "";
        for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
        return btoa(text);
    };
    return [encoded(caster.depth), encoded(caster.index)];
}"""


@dataclass(frozen=True)
class Comparison:
    """The browser's picture against the server's."""

    # Largest relative difference of two depths of the same surface.
    largest_difference: float
    # Pixels that show another surface.
    other_surface: int
    # Whether each of those has a depth that the other picture has there or in one of the eight neighbours.
    edges_within_a_pixel: bool


def random_layout(seed: int) -> Layout:
    """A scene as users make them, and every fourth as they do not: from inside of things, tiny, huge, behind, aloft."""
    draw = random.Random(seed)
    is_odd = seed % 4 == 3
    things = []
    for number in range(draw.randint(1, 12)):
        shape = draw.choice(list(named_shapes()))
        ahead = draw.uniform(-2, 6) if is_odd else draw.uniform(1.5, 20)
        aside = draw.uniform(-0.7, 0.7) * max(ahead, 2)
        factor = draw.choice([0.05, 0.5, 1, 2, 8]) if is_odd else draw.uniform(0.6, 1.6)
        size = tuple(min(value * factor * draw.uniform(0.8, 1.25), 900) for value in named_shapes()[shape].size_m)
        up = draw.choice([0, 0, draw.uniform(-1, 3)])
        heading = draw.choice([0, 90, draw.uniform(0, 360)])
        things.append(LayoutObject(f"{shape} {number}", shape, (aside, up, ahead), heading, size))
    camera = LayoutCamera(
        draw.uniform(0, 4), draw.uniform(-90, 90) if is_odd else draw.uniform(-15, 40), draw.uniform(8, 120)
    )
    scene = Layout(camera, draw.random() < 0.8, tuple(things))
    # As it is written, with its rounded numbers.
    return read_layout(scene.to_json()).layout


class _Files(SimpleHTTPRequestHandler):
    """Serves the folder web/ and says nothing."""

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def page_without_host(repository: Path) -> Iterator[tuple[Page, str]]:
    """A page of a headless Chromium without a ComfyUI, and the address of the folder web/ in it."""
    files = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, directory=str(repository / "web")))
    threading.Thread(target=files.serve_forever, daemon=True).start()
    try:
        with sync_playwright() as playwright:
            path = str(require_chromium(Path(sys.executable)))
            chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
            page = chromium.new_page(viewport={"width": 1600, "height": 1000})
            address = f"http://127.0.0.1:{files.server_port}"
            page.goto(f"{address}/editor_data.json")
            yield page, address
            chromium.close()
    finally:
        files.shutdown()
        files.server_close()


def browser_depth(
    page: Page, layout: Layout, width: int, height: int, web: str = WEB
) -> tuple[NDArray[Any], NDArray[Any]]:
    """(H, W) float32 metres and (H, W) int16 object indices, as the page computes them. web: address of web/."""
    encoded = page.evaluate(DRAW, [web, layout.to_json(), width, height, GROUND_EXTENT_M])
    arrays = [np.frombuffer(base64.b64decode(text), kind) for text, kind in zip(encoded, ("<f4", "<i2"))]
    return arrays[0].reshape(height, width), arrays[1].reshape(height, width)


def server_depth(layout: Layout, width: int, height: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The same as `compose_layout` has it, which the node uses."""
    scene = compose_layout(layout, width, height, GROUND_EXTENT_M)
    return scene.depth.depth[0].numpy(), scene.object_index.numpy()


def compare(ours: NDArray[Any], theirs: NDArray[Any]) -> Comparison:
    """ours, theirs: (H, W) metres, inf where there is no surface."""
    difference = np.zeros(ours.shape)
    both = np.isfinite(ours) & np.isfinite(theirs)
    difference[both] = abs(ours[both] / theirs[both] - 1)
    difference[np.isfinite(ours) != np.isfinite(theirs)] = np.inf
    other = difference > SAME
    near = all(_is_near(a, b, other) for a, b in ((ours, theirs), (theirs, ours)))
    same = difference[~other]
    return Comparison(float(same.max()) if same.size else 0.0, int(other.sum()), near)


def _is_near(image: NDArray[Any], reference: NDArray[Any], places: NDArray[Any]) -> bool:
    """Whether each depth at these places is among those of the reference there and in the eight neighbours.

    On a surface that the ray only grazes, it is between two of them.
    """
    height, width = image.shape
    padded = np.pad(reference, 1, mode="edge")
    windows = np.stack([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)])
    low, high = windows.min(axis=0) * (1 - SAME), windows.max(axis=0) * (1 + SAME)
    return bool(((image >= low) & (image <= high))[places].all())

"""`python -m tests.host.bench_editor`: how fast the scene editor follows a drag, with 30 objects at 512 pixels.

Other programs on the machine slow it down. So it also prints the time that the page's thread itself worked.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import CDPSession

from sf_model.scaffold.layout import Layout, LayoutCamera, LayoutObject
from sf_model.scaffold.shapes import named_shapes
from tests.host.editor_depth import page_without_host

ROOT = Path(__file__).resolve().parents[2]
OBJECTS = 30
# Opens the editor with a layout and gives it to the page as `editor`.
OPEN = """async ([web, text, colours]) => {
    const { SceneEditor } = await import(`${web}/js/editor/editor.js`);
    const { loadShapes } = await import(`${web}/js/editor/shapes.js`);
    const { isolated } = await import(`${web}/js/editor/host_graph.js`);
    const layout = await import(`${web}/js/editor/layout.js`);
    const shapes = await loadShapes();
    const ignore = () => {};
    window.editor = new SceneEditor({
        shapes, options: { colours, names: true, snap: true, opacity: 0.5 },
        onSave: ignore, onOptions: ignore, onPhoto: ignore, onClose: ignore,
    });
    const place = document.createElement("div");
    place.style = "position: fixed; inset: 20px; background: #202020";
    place.append(isolated(window.editor.element, `${web}/scene_editor.css`));
    document.body.replaceChildren(place);
    window.editor.setPicture({ width: 1024, height: 1024, groundExtentM: 100 });
    window.editor.open(layout.parseLayout(text, shapes), false);
    window.editor.scene.select(3);
    window.withObject = layout.withObject;
}"""
# Moves an object before each frame. Outside of a gesture, so that the picture keeps its 512 pixels.
MOVE = """async frames => {
    const { scene, camera } = window.editor;
    const [x, y, z] = scene.thing.position_m;
    const start = performance.now();
    for (let frame = 0; frame < frames; frame += 1) {
        const angle = frame / 10;
        const place = [x + Math.sin(angle), y, z + 0.5 * Math.cos(angle)];
        scene.change(window.withObject(scene.layout, 3, { position_m: place }), "move");
        await new Promise(requestAnimationFrame);
    }
    return { wall: (performance.now() - start) / frames, width: camera.caster.width };
}"""


def scene(seed: int) -> Layout:
    """30 objects of usual sizes, all before the camera."""
    draw = random.Random(seed)
    things = []
    for number in range(OBJECTS):
        shape = draw.choice(list(named_shapes()))
        ahead = draw.uniform(3, 18)
        size = tuple(min(value * draw.uniform(0.7, 1.4), 6.0) for value in named_shapes()[shape].size_m)
        place = (draw.uniform(-0.6, 0.6) * ahead, draw.choice([0, 0, 0.7]), ahead)
        things.append(LayoutObject(f"{shape} {number}", shape, place, draw.uniform(0, 360), size))
    return Layout(LayoutCamera(1.6, 10.0, 50.0), True, tuple(things))


def busy_s(session: CDPSession) -> float:
    """Seconds of processor time of the page's thread."""
    metrics: list[dict[str, Any]] = session.send("Performance.getMetrics")["metrics"]
    return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.host.bench_editor", description=__doc__)
    parser.add_argument("--frames", type=int, default=60)
    frames = parser.parse_args().frames
    with page_without_host(ROOT) as (page, web):
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        for seed, colours in ((0, "spatialfusion"), (1, "spatialfusion"), (2, "spatialfusion"), (2, "objects")):
            page.evaluate(OPEN, [web, scene(seed).to_json(), colours])
            page.evaluate(MOVE, frames // 2)
            before = busy_s(session)
            found = page.evaluate(MOVE, frames)
            busy_ms = 1000 * (busy_s(session) - before) / frames
            load = os.getloadavg()[0]
            sys.stdout.write(
                f"scene {seed} as {colours}, {found['width']} px: {found['wall']:.1f} ms a frame at load {load:.1f}. "
                f"The page's thread worked {busy_ms:.1f} ms, which allows {1000 / busy_ms:.0f} frames a second.\n"
            )
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.host.export_help_pictures [NODE ID ...]`: draw the help pages' pictures; all of them by default.

web/docs/<node id>/graph.png shows the page's minimal graph on the canvas of the newest host's real front end. Graphs
that need no weights have run, so that their nodes show results.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.host.browser import Browser, HostPage
from tests.host.mini_graphs import node
from tests.host.server import ComfyServer, Graph
from tools import hosts

ROOT = Path(__file__).resolve().parents[2]
MAX_BYTES = 40_000
MAX_WIDTH = 960
MARGIN = 24
# Where on the page the front end puts nothing over the canvas.
CORNER = (110, 110)
SPACE = (1380, 780)
SETTINGS = {"Comfy.Minimap.Visible": False, "Comfy.VueNodes.Enabled": False}
# Lays the graph out in columns, puts it into the free part of the page, and says how large it is there.
LAY_OUT = """([left, top, width, height]) => {
    const { graph, canvas } = window.app;
    for (const node of graph.nodes) {
        const size = node.computeSize();
        node.setSize([Math.max(node.size[0], size[0]), Math.max(size[1], node.imgs || node.widgets?.some(
            (widget) => widget.element) ? node.size[1] : 0)]);
    }
    graph.arrange(50);
    const title = window.LiteGraph.NODE_TITLE_HEIGHT;
    const x0 = Math.min(...graph.nodes.map((node) => node.pos[0]));
    const y0 = Math.min(...graph.nodes.map((node) => node.pos[1])) - title;
    const x1 = Math.max(...graph.nodes.map((node) => node.pos[0] + node.size[0]));
    const y1 = Math.max(...graph.nodes.map((node) => node.pos[1] + node.size[1]));
    const scale = Math.min(1, width / (x1 - x0), height / (y1 - y0));
    canvas.deselectAll();
    canvas.background_image = "";
    canvas.clear_background_color = "#181818";
    canvas.ds.scale = scale;
    canvas.ds.offset = [left / scale - x0, top / scale - y0];
    canvas.setDirty(true, true);
    return [(x1 - x0) * scale, (y1 - y0) * scale];
}"""

CAR = node("SpatialFusionScaffoldObject", shape="box", width_m=1.8, height_m=1.5, length_m=4.2, x_m=-1.0, z_m=9.0)
SCENE: Graph = {
    "car": CAR,
    "scene": node("SpatialFusionComposeDepth", objects=["car", 0], width=512, height=512, fov_y_deg=40.0),
}
COMPOSED: Graph = {"scene": node("SpatialFusionComposeDepth", width=512, height=512)}
PREDICTED: Graph = {"predict": node("SpatialFusionPredictDepth", prompt="a red car 5.0 m away, facing left")}
PHOTO: Graph = {"photo": node("LoadImage"), "moge": node("MoGeInference", image=["photo", 0])}
APPLIED = node("SpatialFusionApplyDepth", geometry=["predict", 0])
DEPTH_CONTROLNET = node("ControlNetApplyAdvanced", image=["pictures", 0])

GRAPHS: dict[str, Graph] = {
    "SpatialFusionMiniLoader": {
        "base": node("SpatialFusionMiniLoader"),
        "loader": node("SpatialFusionLoader", clip=["base", 1]),
        **{"predict": node("SpatialFusionPredictDepth", spatialfusion=["loader", 0], prompt="a red car 5.0 m away")},
        "apply": node(
            "SpatialFusionApplyDepth", model=["base", 0], spatialfusion=["loader", 0], geometry=["predict", 0]
        ),
    },
    "SpatialFusionLoader": {
        "base": node("SpatialFusionMiniLoader"),
        "loader": node("SpatialFusionLoader", clip=["base", 1]),
        "predict": node("SpatialFusionPredictDepth", spatialfusion=["loader", 0], prompt="a red car 5.0 m away"),
    },
    "SpatialFusionPredictDepth": {
        **{"loader": node("SpatialFusionLoader")},
        "predict": node("SpatialFusionPredictDepth", spatialfusion=["loader", 0], prompt="a red car 5.0 m away"),
        "apply": APPLIED,
    },
    "SpatialFusionApplyDepth": {
        **PREDICTED,
        "apply": APPLIED,
        "sampler": node("KSampler", model=["apply", 0], positive=["predict", 1]),
    },
    "SpatialFusionSampler": {
        **PREDICTED,
        "apply": APPLIED,
        "negative": node("CLIPTextEncode", text=""),
        "sampler": node("SpatialFusionSampler", model=["apply", 0], positive=["predict", 1], negative=["negative", 0]),
        "decode": node("VAEDecode", samples=["sampler", 0]),
    },
    "SpatialFusionSaveDepth": {**PREDICTED, "save": node("SpatialFusionSaveDepth", geometry=["predict", 0])},
    "SpatialFusionLoadDepth": {
        "load": node("SpatialFusionLoadDepth"),
        "apply": node("SpatialFusionApplyDepth", geometry=["load", 0]),
    },
    "SpatialFusionImageToDepth": {
        "photo": node("LoadImage"),
        "metric": node("SpatialFusionImageToDepth", image=["photo", 0]),
        "apply": node("SpatialFusionApplyDepth", geometry=["metric", 0]),
    },
    "SpatialFusionBlendDepth": {
        **PREDICTED,
        **PHOTO,
        "feather": node("FeatherMask", mask=["photo", 1]),
        "blend": node(
            "SpatialFusionBlendDepth", geometry_a=["predict", 0], geometry_b=["moge", 0], mask=["feather", 0]
        ),
    },
    "SpatialFusionAdjustDepth": {
        **PHOTO,
        "adjust": node("SpatialFusionAdjustDepth", geometry=["moge", 0], mask=["photo", 1], distance_m=2.0),
        "pictures": node("SpatialFusionDepthToImages", geometry=["adjust", 0]),
        "control": DEPTH_CONTROLNET,
    },
    "SpatialFusionDepthToImages": {
        **PREDICTED,
        "pictures": node("SpatialFusionDepthToImages", geometry=["predict", 0]),
        "control": DEPTH_CONTROLNET,
    },
    "SpatialFusionInspectDepth": {**SCENE, "inspect": node("SpatialFusionInspectDepth", geometry=["scene", 0])},
    "SpatialFusionDepthToMesh": {
        **PREDICTED,
        "mesh": node("SpatialFusionDepthToMesh", geometry=["predict", 0]),
        "save": node("SaveGLB", mesh=["mesh", 0]),
    },
    "SpatialFusionScaffoldObject": {
        "car": CAR,
        "person": node(
            "SpatialFusionScaffoldObject",
            shape="cylinder",
            width_m=0.5,
            height_m=1.75,
            length_m=0.5,
            x_m=1.5,
            z_m=5.0,
            objects=["car", 0],
        ),
        "scene": node("SpatialFusionComposeDepth", objects=["person", 0], width=512, height=512, fov_y_deg=40.0),
        "picture": node("PreviewImage", images=["scene", 1]),
    },
    "SpatialFusionScaffoldMesh": {
        "chair": node("SpatialFusionScaffoldMesh", size_m=0.9, z_m=3.0),
        "scene": node("SpatialFusionComposeDepth", objects=["chair", 0]),
        "inspect": node("SpatialFusionInspectDepth", geometry=["scene", 0]),
    },
    "SpatialFusionComposeDepth": {
        **SCENE,
        "pictures": node("SpatialFusionDepthToImages", geometry=["scene", 0]),
        "picture": node("PreviewImage", images=["pictures", 0]),
    },
}
# Nothing in these needs weights or a file.
RUN = ("SpatialFusionInspectDepth", "SpatialFusionScaffoldObject", "SpatialFusionComposeDepth")


def compressed(picture: Image.Image) -> bytes:
    """A PNG of at most MAX_BYTES, with as many colours as that allows."""
    for width in (MAX_WIDTH, 800, 640):
        small = picture
        if picture.width > width:
            height = round(picture.height * width / picture.width)
            small = picture.resize((width, height), Image.Resampling.LANCZOS)
        for colours in (256, 128, 64, 32):
            buffer = io.BytesIO()
            few = small.quantize(colours, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
            few.save(buffer, "PNG", optimize=True)
            if buffer.tell() < MAX_BYTES:
                return buffer.getvalue()
    raise ValueError(f"{picture.size} pixels do not fit into {MAX_BYTES} bytes")


def numbered(graph: Graph, start: int) -> Graph:
    """The graph with numbers from `start` on for its nodes' names, as the front end wants them."""
    numbers = {name: str(number) for number, name in enumerate(graph, start)}
    return {
        numbers[name]: {
            "class_type": entry["class_type"],
            "inputs": {
                key: [numbers[value[0]], value[1]] if isinstance(value, list) else value
                for key, value in entry["inputs"].items()
            },
        }
        for name, entry in graph.items()
    }


def picture_of(page: HostPage, node_id: str) -> Image.Image:
    """The graph of a node's page on the canvas, with its results if it has run."""
    # Numbers of their own, as the front end keeps widgets and results of the graph before by number.
    graph = numbered(GRAPHS[node_id], 1 + 10 * list(GRAPHS).index(node_id))
    page.tab.evaluate("async graph => { await window.app.loadApiJson(graph, 'help') }", graph)
    if node_id in RUN:
        page.run()
    page.tab.wait_for_timeout(1500)
    width, height = page.tab.evaluate(LAY_OUT, [*CORNER, *SPACE])
    page.tab.mouse.move(5, 995)
    page.tab.wait_for_timeout(1500)
    clip = {
        "x": CORNER[0] - MARGIN,
        "y": CORNER[1] - MARGIN,
        "width": width + 2 * MARGIN,
        "height": height + 2 * MARGIN,
    }
    return Image.open(io.BytesIO(page.tab.screenshot(clip=clip))).convert("RGB")


def main(node_ids: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = ComfyServer(ROOT, hosts.NEWEST.version, Path(folder))
        server.start()
        try:
            with Browser() as browser, browser.open(server) as page:
                for name, value in SETTINGS.items():
                    page.tab.evaluate("([n, v]) => window.app.extensionManager.setting.set(n, v)", [name, value])
                for node_id in node_ids:
                    picture = picture_of(page, node_id)
                    (ROOT / "web" / "docs" / node_id / "graph.png").write_bytes(compressed(picture))
        finally:
            server.stop()


if __name__ == "__main__":
    main(sys.argv[1:] or list(GRAPHS))

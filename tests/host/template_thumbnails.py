"""The templates' thumbnails: what their nodes show in a run, side by side.

Real models are not at hand. Nodes that need one are left out of the run, and a photo or draft and its measured depth
are those of a scene of the pack's own synthetic world: its exact depth stands in for MoGe's. A language model is there
with random weights, and its answer is written for it (tests/host/probe_nodes). All other values are the template's own.
"""

from __future__ import annotations

import io
import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sf_model.world import Camera, Rendering, Scene, SceneObject, render
from tests.host.mini_graphs import node
from tests.host.server import ComfyServer, Graph
from tests.host.template_runs import node_titled, nodes_of_type

THUMBNAIL_SIZE = (768, 384)
BACKGROUND = (28, 28, 32)
MODEL_LOADERS = {
    "CheckpointLoaderSimple",
    "CLIPLoader",
    "ControlNetLoader",
    "DualCLIPLoader",
    "LoadImage",
    "LoadMoGeModel",
    "ModelPatchLoader",
    "UNETLoader",
    "VAELoader",
}
MEASURED_IMAGE = "measured image"
# By template: the titles of nodes that show pictures or points.
PANELS: dict[str, tuple[str, ...]] = {
    "blend_adjust_mini": ("Blend Metric Depth", "Adjust Metric Depth", "Save Image"),
    "compare_strengths_mini": ("Save Image",),
    "composed_scaffold_mini": ("Compose Depth Scaffold", "Save Image"),
    "depth_from_photo_mini": (MEASURED_IMAGE, "Inspect Metric Depth", "Save Image"),
    "draft_measure_correct_qwen_image": (
        MEASURED_IMAGE,
        "Inspect Metric Depth: the draft",
        "Adjust Metric Depth: move it to 2 m",
    ),
    "draft_measure_correct_z_image_turbo": (
        MEASURED_IMAGE,
        "Inspect Metric Depth: the draft",
        "Adjust Metric Depth: move it to 2 m",
    ),
    "edit_mini": ("Source, enlarged", "Save Metric Depth", "Edit, enlarged"),
    "inspect_3d_mini": ("Inspect Metric Depth", "Preview 3D & Animation"),
    "mixed_controlnet_lora_qwen_image": ("The Scene", "Compose Depth Scaffold: the layout", "Depth for the ControlNet"),
}
PLANNER, COMPOSER = "SpatialFusionPlanLayout", "Compose Depth Scaffold"
PLANNED_SCENE = "the planned scene"
PLAN_PANELS = (PLANNED_SCENE, COMPOSER)
USUAL_PANELS = ("Save Metric Depth", "Save Image")

# A draft as the templates ask for: the object in the middle, a few metres away, and something far behind it.
SCENE = Scene(
    Camera(height_m=1.2, pitch_deg=6.0, fov_y_deg=50.0),
    (
        SceneObject("chair", "orange", (0.0, 3.6), 20.0, (0.9, 0.9, 1.3)),
        SceneObject("house", "white", (2.5, 16.0), -10.0, (7.5, 7.0, 5.5)),
        SceneObject("mailbox", "blue", (-1.9, 7.5), 0.0, (0.6, 0.35, 1.3)),
    ),
    ground="grass",
    sky="clear",
    sun_azimuth_deg=-40.0,
    sun_elevation_deg=45.0,
)
SCENE_SIDE_PX = 640


def thumbnail(server: ComfyServer, name: str, graph: Graph) -> Image.Image:
    """Run a template, given in API form, and put its panels side by side."""
    if nodes_of_type(graph, "MoGeInference"):
        write_scene(server)
        graph = with_scene(graph)
    plans = bool(nodes_of_type(graph, PLANNER))
    if plans:
        graph = with_shading(graph)
    graph = without_models(graph)
    titles = PLAN_PANELS if plans else PANELS.get(name, USUAL_PANELS)
    ids = [node_titled(graph, title) for title in titles]
    server.free_memory()  # the host shows no pictures of nodes that it need not run again
    outputs = server.run(graph, timeout_s=1200)
    pictures = [panel(server, outputs[node_id]) for node_id in ids]
    if plans:
        pictures.insert(0, text_panel(graph[node_titled(graph, "Prompt")]["inputs"]["value"]))
    width, height = THUMBNAIL_SIZE
    sheet = Image.new("RGB", THUMBNAIL_SIZE, BACKGROUND)
    for column, picture in enumerate(pictures):
        scale = min(width / len(pictures) / picture.width, height / picture.height)
        size = round(picture.width * scale), round(picture.height * scale)
        left = round((column + 0.5) * width / len(pictures) - size[0] / 2)
        sheet.paste(picture.resize(size, Image.Resampling.BICUBIC), (left, (height - size[1]) // 2))
    return sheet


def panel(server: ComfyServer, output: dict) -> Image.Image:
    """What a node shows: its first picture, or its point cloud."""
    if "images" in output:
        return Image.open(io.BytesIO(server.view(output["images"][0]))).convert("RGB")
    return draw_points(server.view({"filename": output["result"][0], "type": "output"}))


def text_panel(text: str, side: int = 384) -> Image.Image:
    """A prompt as a picture."""
    sheet = Image.new("RGB", (side, side), BACKGROUND)
    lines = "\n".join(textwrap.wrap(text, 28))
    font = ImageFont.load_default(24)
    ImageDraw.Draw(sheet).multiline_text((28, 36), lines, fill=(225, 225, 225), font=font, spacing=10)
    return sheet


def with_shading(graph: Graph) -> Graph:
    """The graph with the shaded picture of its planned scene, and a short answer of its language model."""
    shown = node("PreviewImage", images=[node_titled(graph, COMPOSER), 1]) | {"_meta": {"title": PLANNED_SCENE}}
    (planner,) = nodes_of_type(graph, PLANNER)
    short = dict(graph[planner], inputs=graph[planner]["inputs"] | {"max_tokens": 64})
    return graph | {planner: short, "scene shown": shown}


def with_scene(graph: Graph) -> Graph:
    """The graph with what `write_scene` wrote in place of the image that MoGe measures, and of what it measures."""
    (moge,) = nodes_of_type(graph, "MoGeInference")
    replaced = {moge: ["scene depth", 0], graph[moge]["inputs"]["image"][0]: ["scene", 0]}
    result = {node_id: dict(entry, inputs=_relinked(entry["inputs"], replaced)) for node_id, entry in graph.items()}
    title = {"_meta": {"title": "the scene"}}
    result["scene"] = node("ImageFromBatch", image=["scene picture", 0], batch_index=0, length=1) | title
    result["scene picture"] = node("LoadImage", image="scene.png") | title
    result["scene depth"] = (
        node("SpatialFusionLoadDepth", file="scene.npy", unit="metres", fov_y_deg=SCENE.camera.fov_y_deg) | title
    )
    result["scene shown"] = node("PreviewImage", images=["scene", 0]) | {"_meta": {"title": MEASURED_IMAGE}}
    return result


def render_scene() -> Rendering:
    """SCENE with its exact depth."""
    return render([SCENE], SCENE_SIDE_PX, SCENE_SIDE_PX, supersample=2)


def write_scene(server: ComfyServer) -> Rendering:
    """Render SCENE into the server's input folder, as scene.png and scene.npy (metres)."""
    rendering = render_scene()
    pixels = (rendering.rgb[0].movedim(0, -1) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(server.base / "input" / "scene.png")
    np.save(server.base / "input" / "scene.npy", rendering.depth_m[0].numpy())
    return rendering


def _relinked(inputs: dict, replaced: dict[str, list]) -> dict:
    return {key: replaced.get(value[0], value) if is_link(value) else value for key, value in inputs.items()}


def is_link(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def without_models(graph: Graph) -> Graph:
    """The graph without loaders of real models and without all that hangs on them, but with what plans a scene."""
    stays = {"scene picture", *(graph[planner]["inputs"]["clip"][0] for planner in nodes_of_type(graph, PLANNER))}
    kept = {
        node_id: entry
        for node_id, entry in graph.items()
        if node_id in stays or entry["class_type"] not in MODEL_LOADERS
    }
    while True:
        whole = {
            node_id: entry
            for node_id, entry in kept.items()
            if all(value[0] in kept for value in entry["inputs"].values() if is_link(value))
        }
        if len(whole) == len(kept):
            return whole
        kept = whole


def draw_points(ply: bytes, side: int = 384, yaw_deg: float = 28.0, pitch_deg: float = 18.0) -> Image.Image:
    """A point cloud (as sf_model.files.ply writes it) from above and the side, turned about its median point."""
    body = ply[ply.index(b"end_header\n") + len(b"end_header\n") :]
    vertices = np.frombuffer(body, np.dtype([("position", "<f4", 3), ("color", "u1", 3)]))
    yaw, pitch = np.radians([yaw_deg, pitch_deg])
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    tip = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    x, y, z = ((vertices["position"] - np.median(vertices["position"], axis=0)) @ (tip @ turn).T).T
    distance = 2 * np.ptp(z) - z
    seen = np.stack([x / distance, -y / distance], axis=1)
    low, high = np.quantile(seen, (0.02, 0.98), axis=0)
    columns, rows = (side / 2 + 0.85 * side * (seen - (low + high) / 2) / (high - low).max()).astype(int).T
    picture = np.full((side, side, 3), BACKGROUND, np.uint8)
    order = np.argsort(-distance)  # near points last
    for row, column, color in zip(rows[order], columns[order], vertices["color"][order]):
        picture[max(row - 2, 0) : max(row + 3, 0), max(column - 2, 0) : max(column + 3, 0)] = color
    return Image.fromarray(picture)

"""What a test needs to run the templates in seconds: the files that they name, and small sizes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.host.mini_graphs import BUILT_IN, node
from tests.host.server import ComfyServer, Graph
from tests.host.tiny_checkpoints import tiny_config, write_tiny_checkpoint
from tools import hosts

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "workflows"
QUICK = {"steps": 2, "resolution_level": 0, "max_tokens": 64}
# Images of real models are this many times smaller in tests, and so are the pixel coordinates that belong to them.
MINI_SIDE_PX = 128
SHRINK = 8
PIXEL_NODES = {
    "EmptySD3LatentImage",
    "ImageScale",
    "SolidMask",
    "CropMask",
    "MaskComposite",
    "SpatialFusionComposeDepth",
    "SpatialFusionPlanLayout",
    "SpatialFusionPredictDepth",
}
PIXEL_INPUTS = ("width", "height", "x", "y")
MOGE_FOLDER = "geometry_estimation"
# By the end of a template's name.
BASES = {"omnigen2": "omnigen2", "z_image_turbo": "z_image", "flux": "flux", "sdxl": "sdxl"}
# Files that belong to another base than the template's, as tests/host/probe_nodes knows them.
TEXT_ENCODERS = {
    "qwen_3_4b.safetensors": "z_image",
    "clip_l.safetensors": "clip_l",
    "t5xxl_fp16.safetensors": "t5xxl",
}


def template_names() -> list[str]:
    return sorted(path.stem for path in TEMPLATES.glob("*.json"))


def load_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def workflow(name: str) -> dict[str, Any]:
    """A template in UI form."""
    return load_json(TEMPLATES / f"{name}.json")


def api_workflow(name: str) -> Graph:
    """A template's committed API form."""
    return load_json(TEMPLATES / "api" / f"{name}.json")


def all_nodes(template: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The nodes of a workflow in UI form, with those in its subgraphs."""
    yield from template["nodes"]
    for subgraph in (template.get("definitions") or {}).get("subgraphs", ()):
        yield from subgraph["nodes"]


def models_of(name: str) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """(node, {"name", "url", "directory"}) for every file that a template tells the front end of."""
    for loader in all_nodes(workflow(name)):
        for model in loader["properties"].get("models", ()):
            yield loader, model


def base_of(name: str) -> str:
    """The architecture of the real models that a template names."""
    return next((base for ending, base in BASES.items() if name.endswith(ending)), "qwen_image")


def checkpoints_of(name: str) -> Iterator[str]:
    """The SpatialFusion checkpoints that a template wants in models/spatialfusion."""
    for loader in workflow(name)["nodes"]:
        if loader["type"] == "SpatialFusionLoader" and loader["widgets_values"][0] != BUILT_IN:
            yield loader["widgets_values"][0]


def needs_moge(name: str) -> bool:
    return any(model["directory"] == MOGE_FOLDER for _, model in models_of(name))


def has_real_base(name: str) -> bool:
    return any(model["directory"] in {"diffusion_models", "checkpoints"} for _, model in models_of(name))


def node_titled(graph: Graph, title: str) -> str:
    """The id of the only node of this title."""
    (node_id,) = [node_id for node_id, entry in graph.items() if entry["_meta"]["title"] == title]
    return node_id


def nodes_of_type(graph: Graph, *node_types: str) -> list[str]:
    return [node_id for node_id, entry in graph.items() if entry["class_type"] in node_types]


def provide_files(server: ComfyServer) -> None:
    """Put where the server looks what the templates name: tiny models, and the picture that every ComfyUI has."""
    picture = hosts.host_folder(ROOT, hosts.NEWEST.version) / "input" / "example.png"
    shutil.copy(picture, server.base / "input" / picture.name)
    has_moge = server.object_info("LoadMoGeModel") is not None
    models = [
        {**model, "base": TEXT_ENCODERS.get(model["name"], base_of(name))}
        for name in template_names()
        for _, model in models_of(name)
    ]
    wanted = [model for model in models if has_moge or model["directory"] != MOGE_FOLDER]
    server.run({"files": node("ProbeTinyFiles", files=json.dumps(wanted))})
    for name in template_names():
        for checkpoint in checkpoints_of(name):
            config = tiny_config(base_of(name), "token", source=True)
            write_tiny_checkpoint(server.base / "models" / "spatialfusion", checkpoint, config)


def quick_changes(graph: Graph, real_base: bool) -> dict[str, dict[str, Any]]:
    """The inputs to change, by node id, for a run in seconds: few steps, small images of real models."""
    changes: dict[str, dict[str, Any]] = {}
    for node_id, entry in graph.items():
        inputs = entry["inputs"]
        quick = {key: value for key, value in QUICK.items() if key in inputs}
        if real_base and entry["class_type"] in PIXEL_NODES:
            sizes = {key: inputs[key] for key in PIXEL_INPUTS if isinstance(inputs.get(key), int)}
            quick |= {key: size // SHRINK for key, size in sizes.items() if size > MINI_SIDE_PX}
        if real_base and "megapixels" in inputs:
            quick["megapixels"] = inputs["megapixels"] / SHRINK**2
        if quick:
            changes[node_id] = quick
    return changes

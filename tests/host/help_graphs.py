"""The minimal graphs of the help pages: whole, so that they run as they are, with the built-in weights or with none.

tests.host.export_help_pictures draws them, tests.host.test_help_in_browser runs them.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
from PIL import Image

from tests.host.mini_graphs import APPLIED, BUILT_IN, CLIP, CONDITIONING, GEOMETRY, LATENT, MODEL, NEGATIVE, VAE, node
from tests.host.server import ComfyServer, Graph

DEPTH_FILE, DEPTH_PICTURE, MESH_FILE = "chair.npy", "chair_depth.png", "chair.obj"
PICTURE_NEAR_M, PICTURE_FAR_M = 2.0, 50.0
PROMPT = "a red car 5.0 m away, facing left; on the grass on a clear day"
# (x, y, z, width, height, length) of the parts of a chair in metres: the centre of the underside, then the size.
CHAIR = [
    (0.0, 0.42, 0.0, 0.5, 0.06, 0.5),
    (0.0, 0.48, -0.22, 0.5, 0.5, 0.06),
    *((x, 0.0, z, 0.06, 0.42, 0.06) for x in (-0.22, 0.22) for z in (-0.22, 0.22)),
]

CAR = {
    "car": node(
        "SpatialFusionScaffoldObject",
        **{"shape": "box", "width_m": 1.8, "height_m": 1.5, "length_m": 4.2, "x_m": -1.0, "z_m": 9.0},
        heading_deg=30.0,
    )
}
# What a language model would write.
LAYOUT_TEXT = """{"camera": {"height_m": 1.6, "pitch_deg": 8, "fov_y_deg": 40},
 "objects": [
  {"name": "red car", "position_m": [-1, 9], "heading_deg": 30},
  {"name": "woman", "position_m": [1.2, 5]},
  {"name": "oak tree", "position_m": [3, 16]}
]}"""
LAYOUT = {"layout": node("PrimitiveStringMultiline", value=LAYOUT_TEXT)}
PERSON = {
    "person": node(
        "SpatialFusionScaffoldObject",
        **{"shape": "cylinder", "width_m": 0.5, "height_m": 1.75, "length_m": 0.5, "x_m": 1.2, "z_m": 5.0},
    )
}


def scene(objects: str, name: str = "scene") -> Graph:
    """Compose Depth Scaffold with the objects of the node of this name."""
    return {
        name: node(
            "SpatialFusionComposeDepth",
            objects=[objects, 0],
            width=512,
            height=512,
            fov_y_deg=40.0,
            camera_pitch_deg=8.0,
        )
    }


SCENE: Graph = {**CAR, **scene("car")}
SCENE_GEOMETRY = ["scene", 0]
LOADED: Graph = {
    "base": node("SpatialFusionMiniLoader"),
    "loader": node("SpatialFusionLoader", clip=CLIP, checkpoint=BUILT_IN),
}
PREDICTED: Graph = {
    **LOADED,
    "predict": node("SpatialFusionPredictDepth", spatialfusion=["loader", 0], prompt=PROMPT, width=64, height=64),
}
# What every sampler is given, but its model and its positive.
STILL: Graph = {
    "negative": node("CLIPTextEncode", clip=CLIP, text=""),
    "latent": node("EmptyChromaRadianceLatentImage", width=64, height=64, batch_size=1),
}
SHOWN: Graph = {
    "decode": node("VAEDecode", samples=["sampler", 0], vae=VAE),
    "image": node("PreviewImage", images=["decode", 0]),
}


def sampler(node_type: str, model: list[str | int], positive: list[str | int]) -> Graph:
    """A sampler of this type with the settings of the templates."""
    return {
        "sampler": node(
            node_type,
            **{"model": model, "positive": positive, "negative": NEGATIVE, "latent_image": LATENT},
            **{"seed": 1, "steps": 20, "cfg": 4.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0},
        )
    }


def drawn(sampler_type: str) -> Graph:
    """From the prompt to depth to the image."""
    apply = node("SpatialFusionApplyDepth", model=MODEL, spatialfusion=["loader", 0], geometry=GEOMETRY)
    return {**PREDICTED, **STILL, "apply": apply, **sampler(sampler_type, APPLIED, CONDITIONING), **SHOWN}


GRAPHS: dict[str, Graph] = {
    "SpatialFusionMiniLoader": {
        "base": node("SpatialFusionMiniLoader"),
        "positive": node("CLIPTextEncode", clip=CLIP, text=PROMPT),
        **STILL,
        **sampler("KSampler", MODEL, ["positive", 0]),
        **SHOWN,
    },
    "SpatialFusionLoader": {**PREDICTED, "image": node("PreviewImage", images=["predict", 2])},
    "SpatialFusionPredictDepth": drawn("SpatialFusionSampler"),
    "SpatialFusionApplyDepth": drawn("KSampler"),
    "SpatialFusionSampler": drawn("SpatialFusionSampler"),
    "SpatialFusionImageToDepth": {
        "picture": node("LoadImage", image=DEPTH_PICTURE),
        "metric": node(
            "SpatialFusionImageToDepth",
            image=["picture", 0],
            near_m=PICTURE_NEAR_M,
            far_m=PICTURE_FAR_M,
            fov_y_deg=50.0,
        ),
        "inspect": node("SpatialFusionInspectDepth", geometry=["metric", 0]),
    },
    "SpatialFusionLoadDepth": {
        "load": node("SpatialFusionLoadDepth", file=DEPTH_FILE, unit="metres", fov_y_deg=50.0),
        "inspect": node("SpatialFusionInspectDepth", geometry=["load", 0]),
    },
    "SpatialFusionSaveDepth": {**SCENE, "save": node("SpatialFusionSaveDepth", geometry=SCENE_GEOMETRY)},
    "SpatialFusionInspectDepth": {**SCENE, "inspect": node("SpatialFusionInspectDepth", geometry=SCENE_GEOMETRY)},
    "SpatialFusionDepthToMesh": {
        **SCENE,
        "mesh": node("SpatialFusionDepthToMesh", geometry=SCENE_GEOMETRY, max_depth_m=20.0),
        "save": node("SaveGLB", mesh=["mesh", 0]),
    },
    "SpatialFusionAdjustDepth": {
        **SCENE,
        "adjust": node("SpatialFusionAdjustDepth", geometry=SCENE_GEOMETRY, mask=["scene", 2], distance_m=4.0),
        "inspect": node("SpatialFusionInspectDepth", geometry=["adjust", 0]),
    },
    "SpatialFusionBlendDepth": {
        **CAR,
        **PERSON,
        **scene("car"),
        **scene("person", "other scene"),
        "blend": node(
            "SpatialFusionBlendDepth", geometry_a=SCENE_GEOMETRY, geometry_b=["other scene", 0], mask=["other scene", 2]
        ),
        "inspect": node("SpatialFusionInspectDepth", geometry=["blend", 0]),
    },
    "SpatialFusionDepthToImages": {
        **SCENE,
        "pictures": node("SpatialFusionDepthToImages", geometry=SCENE_GEOMETRY),
        "depth": node("PreviewImage", images=["pictures", 0]),
        "normals": node("PreviewImage", images=["pictures", 2]),
    },
    "SpatialFusionScaffoldObject": {**SCENE, "image": node("PreviewImage", images=["scene", 1])},
    "SpatialFusionScaffoldMesh": {
        "chair": node("SpatialFusionScaffoldMesh", model_file=MESH_FILE, size_m=0.9, z_m=3.0, heading_deg=30.0),
        **scene("chair"),
        "image": node("PreviewImage", images=["scene", 1]),
    },
    "SpatialFusionComposeDepth": {
        **CAR,
        "person": node("SpatialFusionScaffoldObject", **PERSON["person"]["inputs"], objects=["car", 0]),
        **scene("person"),
        "image": node("PreviewImage", images=["scene", 1]),
    },
    "SpatialFusionPlanLayout": {
        **LAYOUT,
        "plan": node(
            "SpatialFusionPlanLayout",
            text=["layout", 0],
            prompt="a red car, a woman 5 m away, a tree behind the car",
            seed=0,
            width=512,
            height=512,
        ),
        "scene": node("SpatialFusionComposeDepth", layout=["plan", 0], width=512, height=512),
        "image": node("PreviewImage", images=["scene", 1]),
    },
    "SpatialFusionLayoutConditioning": {
        **LAYOUT,
        "base": node("SpatialFusionMiniLoader"),
        "words": node(
            "SpatialFusionLayoutConditioning",
            **{"clip": CLIP, "layout": ["layout", 0], "prompt": "on the grass on a clear day"},
            **{"width": 64, "height": 64, "camera_words": False, "object_strength": 1.0},
        ),
        **STILL,
        **sampler("KSampler", MODEL, ["words", 0]),
        **SHOWN,
    },
}


def graph_digest(node_id: str) -> str:
    """Names the graph of a page; its picture carries it, so that a picture of an older graph is noticed."""
    return hashlib.sha256(json.dumps(GRAPHS[node_id], sort_keys=True).encode()).hexdigest()[:16]


def chair_obj() -> str:
    """CHAIR as a Wavefront OBJ file."""
    vertices, faces = [], []
    for x, y, z, width, height, length in CHAIR:
        first = len(vertices) + 1
        vertices += [
            f"v {x + right * width / 2:g} {y + up * height:g} {z + front * length / 2:g}"
            for up in (0, 1)
            for right, front in ((-1, -1), (1, -1), (1, 1), (-1, 1))
        ]
        sides = ((0, 1, 2, 3), (7, 6, 5, 4), (0, 4, 5, 1), (1, 5, 6, 2), (2, 6, 7, 3), (3, 7, 4, 0))
        faces += ["f " + " ".join(str(first + corner) for corner in side) for side in sides]
    return "\n".join([*vertices, *faces, ""])


def write_files(server: ComfyServer, depth_m: np.ndarray) -> None:
    """Put the files that the graphs load into the server's input folder. depth_m: (H, W), inf for sky."""
    folder = server.base / "input"
    np.save(folder / DEPTH_FILE, depth_m)
    disparity = (1 / depth_m - 1 / PICTURE_FAR_M) / (1 / PICTURE_NEAR_M - 1 / PICTURE_FAR_M)
    Image.fromarray((disparity.clip(0, 1) * 255).round().astype(np.uint8)).save(folder / DEPTH_PICTURE)
    (folder / MESH_FILE).write_text(chair_obj(), encoding="utf-8")

"""Graphs of the pack's nodes in API form, for tests. Every node has a name instead of a number."""

from __future__ import annotations

from typing import Any

from tests.host.server import Graph

BUILT_IN = "SpatialFusion-Mini (built-in)"
PROMPT = "a red car to the left of a blue house, 5 metres away"
MODEL, CLIP, VAE = ["base", 0], ["base", 1], ["base", 2]
GEOMETRY, CONDITIONING, PREVIEW = ["predict", 0], ["predict", 1], ["predict", 2]
APPLIED = ["apply", 0]
NEGATIVE = ["negative", 0]
LATENT = ["latent", 0]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def digest(value: list[Any]) -> dict[str, Any]:
    return node("ProbeDigest", value=value)


def host_mesh(geometry: list[Any]) -> dict[str, Any]:
    """The newest host's own node that makes a mesh of a geometry, cutting nowhere."""
    options = {"batch_index": 0, "decimation": 1, "discontinuity_threshold": 0.0, "texture": True}
    return node("MoGePointMapToMesh", moge_geometry=geometry, **options)


def sampler_inputs(**options: Any) -> dict[str, Any]:
    """What KSampler and SpatialFusion Sampler have in common, but the model; `options` replace some of it."""
    return {
        "seed": 7,
        "steps": 4,
        "cfg": 4.0,
        "sampler_name": "euler",
        "scheduler": "simple",
        "positive": CONDITIONING,
        "negative": NEGATIVE,
        "latent_image": LATENT,
        "denoise": 1.0,
    } | options


def predict_graph(prompt: str = PROMPT, width: int = 64, height: int = 64, checkpoint: str = BUILT_IN) -> Graph:
    """Loaders and Predict Metric Depth, with its preview saved so that it runs."""
    return {
        "base": node("SpatialFusionMiniLoader"),
        "loader": node("SpatialFusionLoader", clip=CLIP, checkpoint=checkpoint),
        "predict": node(
            "SpatialFusionPredictDepth", spatialfusion=["loader", 0], prompt=prompt, width=width, height=height
        ),
        "preview": node("PreviewImage", images=PREVIEW),
    }


def apply_graph(geometry: list[Any] = GEOMETRY, **options: Any) -> Graph:
    """`predict_graph` and Depth Adapter Apply; `options` replace its inputs, `checkpoint` the loader's."""
    graph = predict_graph(checkpoint=options.pop("checkpoint", BUILT_IN))
    inputs = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, "geometry": geometry, "model": MODEL} | options
    graph["apply"] = node("SpatialFusionApplyDepth", spatialfusion=["loader", 0], **inputs)
    return graph


def add_sampler(
    graph: Graph,
    model: list[Any] = APPLIED,
    name: str = "sampler",
    width: int = 64,
    height: int = 64,
    batch_size: int = 1,
    depth_guidance: float | None = 1.0,
    **options: Any,
) -> Graph:
    """Add the empty latent, the negative and a SpatialFusion Sampler (KSampler if `depth_guidance` is None)."""
    inputs = sampler_inputs(**options)
    graph["negative"] = node("CLIPTextEncode", clip=CLIP, text="")
    graph["latent"] = node("EmptyChromaRadianceLatentImage", width=width, height=height, batch_size=batch_size)
    if depth_guidance is None:
        graph[name] = node("KSampler", model=model, **inputs)
    else:
        graph[name] = node("SpatialFusionSampler", model=model, depth_guidance=depth_guidance, **inputs)
    graph[f"{name} digest"] = digest([name, 0])
    return graph

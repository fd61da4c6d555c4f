"""Graphs over the tiny real bases: the templates' graphs, with the tests' loaders in place of the stock ones."""

from __future__ import annotations

from typing import Any

from tests.host.mini_graphs import APPLIED, CONDITIONING, digest, node, sampler_inputs
from tests.host.server import Graph

MODEL, CLIP = ["model", 0], ["clip", 0]
GEOMETRY = ["predict", 0]
PROMPT = "a red chair 2 m away, to the left of a house"


def tiny_graph(architecture: str, checkpoint: str, **options: Any) -> Graph:
    """Loaders, Predict Metric Depth, Depth Adapter Apply and KSampler, with digests of what comes out.

    options: `model`, `clip` and `apply` replace inputs of these nodes; others those of the KSampler.
    """
    loading = {"architecture": architecture, "stored": "float32", "seed": 0}
    model = {**loading, "weight_dtype": "default"} | options.pop("model", {})
    clip = {**loading, "type": ""} | options.pop("clip", {})
    apply = {
        "model": MODEL,
        "spatialfusion": ["loader", 0],
        "geometry": GEOMETRY,
        "strength": 1.0,
        "start_percent": 0.0,
        "end_percent": 1.0,
    } | options.pop("apply", {})
    batch_size = options.pop("batch_size", 1)
    sampler = sampler_inputs(**{"model": APPLIED, "seed": 3, "steps": 2, "cfg": 3.0} | options)
    return {
        "model": node("ProbeTinyModel", **model),
        "clip": node("ProbeTinyClip", **clip),
        "loader": node("SpatialFusionLoader", clip=CLIP, checkpoint=checkpoint),
        "predict": node("SpatialFusionPredictDepth", spatialfusion=["loader", 0], prompt=PROMPT, width=64, height=96),
        "apply": node("SpatialFusionApplyDepth", **apply),
        "negative": node("CLIPTextEncode", clip=CLIP, text=""),
        "latent": node("EmptySD3LatentImage", width=64, height=96, batch_size=batch_size),
        "sampler": node("KSampler", **sampler),
        "geometry digest": digest(GEOMETRY),
        "conditioning digest": digest(CONDITIONING),
        "image digest": digest(["sampler", 0]),
    }


def add_sampler(graph: Graph, name: str, **options: Any) -> Graph:
    """A further KSampler like the first, with other inputs, and its distance from the first's image."""
    graph[name] = node("KSampler", **graph["sampler"]["inputs"] | options)
    graph[f"{name} digest"] = digest([name, 0])
    graph[f"{name} distance"] = node("ProbeDistance", a=["sampler", 0], b=[name, 0])
    return graph


def value(outputs: dict[str, Any], name: str, key: str = "digest") -> Any:
    """What the probe node `name` showed."""
    return outputs[name][key][0]


def relative_distance(outputs: dict[str, Any], name: str) -> float:
    """What ProbeDistance `name` showed, relative to the first latent."""
    return value(outputs, name, "distance") / value(outputs, name, "magnitude")

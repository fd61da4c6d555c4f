"""Loaders, Predict Metric Depth and Save Metric Depth in real servers."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sf_model.depth.colours import SKY, depth_picture
from sf_model.depth.metric_depth import MetricDepth
from tests.host import mini_checkpoints
from tests.host.mini_graphs import (
    BUILT_IN,
    CLIP,
    CONDITIONING,
    GEOMETRY,
    PROMPT,
    digest,
    host_mesh,
    node,
    predict_graph,
)
from tests.host.server import ComfyServer, Graph

NODE_TITLES = {
    "SpatialFusionMiniLoader": "Load SpatialFusion Mini",
    "SpatialFusionLoader": "Load SpatialFusion MLLM+MoT",
    "SpatialFusionPredictDepth": "Predict Metric Depth",
    "SpatialFusionApplyDepth": "Depth Adapter Apply",
    "SpatialFusionSampler": "SpatialFusion Sampler",
    "SpatialFusionSaveDepth": "Save Metric Depth",
    "SpatialFusionLoadDepth": "Load Metric Depth",
    "SpatialFusionImageToDepth": "Image to Metric Depth",
    "SpatialFusionBlendDepth": "Blend Metric Depth",
    "SpatialFusionAdjustDepth": "Adjust Metric Depth",
    "SpatialFusionDepthToImages": "Metric Depth to Images",
    "SpatialFusionInspectDepth": "Inspect Metric Depth",
    "SpatialFusionDepthToMesh": "Metric Depth to Mesh",
    "SpatialFusionScaffoldObject": "Scaffold Object",
    "SpatialFusionScaffoldMesh": "Scaffold Mesh",
    "SpatialFusionComposeDepth": "Compose Depth Scaffold",
    "SpatialFusionPlanLayout": "Plan Scene Layout",
    "SpatialFusionLayoutConditioning": "Layout Conditioning",
}


def saved_depth(server: ComfyServer, graph: Graph, geometry: list[Any] = GEOMETRY) -> tuple[Any, Image.Image]:
    """Run a graph with Save Metric Depth; its arrays and its picture."""
    graph["save"] = node("SpatialFusionSaveDepth", geometry=geometry, filename_prefix="tests/depth")
    output = server.run(graph)["save"]
    arrays = np.load(io.BytesIO(server.view(output["metric_depth"][0])), allow_pickle=False)
    return arrays, Image.open(io.BytesIO(server.view(output["images"][0])))


@pytest.mark.parametrize("node_type", NODE_TITLES)
def test_every_node_is_registered_with_title_tooltips_and_aliases(server: ComfyServer, node_type: str) -> None:
    info = server.object_info(node_type)
    assert info is not None
    assert info["display_name"] == NODE_TITLES[node_type]
    assert info["category"].split("/")[0] == "SpatialFusion"
    assert info["description"] and info["search_aliases"]
    inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    assert [name for name, (_, options) in inputs.items() if not options.get("tooltip")] == []


@pytest.mark.parametrize("prompt", [PROMPT, "a (red:1.3) car", "", "(one (two:0.5) three)"])
def test_conditioning_is_bit_identical_to_clip_text_encode(server: ComfyServer, prompt: str) -> None:
    graph = predict_graph(prompt) | {
        "encode": node("CLIPTextEncode", clip=CLIP, text=prompt),
        "ours": digest(CONDITIONING),
        "host's": digest(["encode", 0]),
    }
    outputs = server.run(graph)
    assert outputs["ours"]["digest"] == outputs["host's"]["digest"]


def test_a_seed_is_a_scene_and_the_mean_is_none_of_them(server: ComfyServer) -> None:
    def confidence(checkpoint: str = BUILT_IN, **options: Any) -> np.ndarray:
        graph = predict_graph("a red car", checkpoint=checkpoint)
        graph["predict"]["inputs"] |= options
        return saved_depth(server, graph)[0]["confidence"]

    default, same, other = confidence(), confidence(mode="sampled", seed=0), confidence(seed=1)
    assert np.array_equal(default, same)
    assert np.abs(default - other).max() > 0.01
    few, unguided = confidence(steps=2), confidence(guidance=1.0)
    assert np.abs(default - few).max() > 1e-4
    assert np.abs(default - unguided).max() > 1e-4
    mean, again = confidence(mode="mean"), confidence(mode="mean", seed=9, steps=3, guidance=4.0)
    assert np.array_equal(mean, again)
    assert np.abs(mean - default).max() > 0.01


def test_a_checkpoint_without_a_flow_says_that_it_gives_the_mean(server: ComfyServer) -> None:
    graph = predict_graph("a red car", checkpoint=mini_checkpoints.MEAN_ONLY)
    outputs = server.run(graph)
    (message,) = outputs["predict"]["text"]
    assert message.startswith("checkpoint 'test' was trained without a depth flow: this is the mean; set mode to mean")
    sampled = saved_depth(server, dict(graph))[0]
    graph["predict"]["inputs"]["mode"] = "mean"
    assert np.array_equal(sampled["confidence"], saved_depth(server, graph)[0]["confidence"])
    graph["predict"]["inputs"]["prompt"] = "a blue car"  # else the host has nothing to run, and nothing to say
    assert "text" not in server.run(graph)["predict"]


def test_prompt_weights_do_not_change_the_depth_but_words_do(server: ComfyServer) -> None:
    """The same tokens give the same keys and values in row 0, up to the rounding of a batch of two."""
    plain, weighted, other = (
        saved_depth(server, predict_graph(prompt))[0]["confidence"]
        for prompt in ("a red car", "(a red car:1.3)", "a blue house")
    )
    assert np.abs(plain - weighted).max() < 1e-4
    assert np.abs(plain - other).max() > 1e-2


@pytest.mark.parametrize("size", [(64, 64), (16, 16), (100, 52), (37, 203)])
def test_depth_has_exactly_the_size_asked_for(server: ComfyServer, size: tuple[int, int]) -> None:
    arrays, picture = saved_depth(server, predict_graph("a tree", *size))
    width, height = size
    assert picture.size == size
    assert arrays["depth_m"].shape == arrays["confidence"].shape == (height, width)
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    finite = arrays["depth_m"][np.isfinite(arrays["depth_m"])]
    assert ((finite >= 0.1 * 0.999) & (finite <= 1000 * 1.001)).all()
    assert not np.isnan(arrays["depth_m"]).any()
    assert ((arrays["confidence"] >= 0) & (arrays["confidence"] <= 1)).all()
    assert 0 < arrays["fov_y_deg"] < 180


def test_the_empty_prompt_works(server: ComfyServer) -> None:
    arrays, _ = saved_depth(server, predict_graph(""))
    assert arrays["depth_m"].shape == (64, 64)


@pytest.mark.parametrize("kind, output", [("moge", 0), ("da3", 1)])
def test_geometry_of_the_host_is_accepted(server: ComfyServer, kind: str, output: int) -> None:
    graph = {"geometry": node("ProbeGeometry", kind=kind, width=60, height=40, batch=1)}
    arrays, picture = saved_depth(server, graph, ["geometry", output])
    # The probe's plane: sky in the upper quarter, then 2 m at the left to 6 m at the right.
    assert np.isinf(arrays["depth_m"][:10]).all()
    assert arrays["depth_m"][10:, 0] == pytest.approx(2)
    assert arrays["depth_m"][10:, -1] == pytest.approx(6)
    # da3 alone has no camera: the host then assumes a focal length of 0.7 widths, 42 pixels here.
    expected_fov = 2 * np.degrees(np.arctan(20 / 42)) if kind == "da3" else 90
    assert arrays["fov_y_deg"] == pytest.approx(expected_fov, abs=1e-3)
    assert (arrays["confidence"] == 1).all()
    depth = MetricDepth(*(torch.from_numpy(arrays[name])[None] for name in ("depth_m", "confidence", "fov_y_deg")))
    expected = 255 * depth_picture(depth)[0].permute(1, 2, 0).numpy()
    assert np.abs(np.asarray(picture) - expected).max() <= 1
    assert np.asarray(picture)[:10] == pytest.approx(255 * np.array(SKY)[None, None] * np.ones((10, 60, 1)), abs=1)


def test_a_batch_is_saved_image_by_image(server: ComfyServer) -> None:
    graph = {
        "geometry": node("ProbeGeometry", kind="moge", width=32, height=16, batch=3),
        "save": node("SpatialFusionSaveDepth", geometry=["geometry", 0], filename_prefix="tests/batch"),
    }
    output = server.run(graph)["save"]
    stems = [file["filename"].rsplit(".", 1)[0] for file in output["images"]]
    assert stems == [file["filename"].rsplit(".", 1)[0] for file in output["metric_depth"]]
    assert len(set(stems)) == 3


def test_the_hosts_geometry_nodes_take_our_depth(newest_server: ComfyServer) -> None:
    """0.18.2 has none of these nodes."""
    graph = predict_graph(checkpoint=mini_checkpoints.TOKEN)
    for output in ("depth", "depth_colored", "normal_opengl", "mask"):
        graph[output] = node("MoGeRender", moge_geometry=GEOMETRY, output=output)
        graph[f"{output} picture"] = node("PreviewImage", images=[output, 0])
    graph["mesh"] = host_mesh(GEOMETRY)
    graph["mesh digest"] = digest(["mesh", 0])
    outputs = newest_server.run(graph)
    assert all(outputs[f"{output} picture"]["images"] for output in ("depth", "depth_colored", "normal_opengl", "mask"))


@pytest.mark.parametrize("checkpoint", [mini_checkpoints.EDITING, mini_checkpoints.PATCHES])
def test_a_source_image_changes_the_depth(server: ComfyServer, checkpoint: str) -> None:
    """By DINOv2's features, or by its own patches."""
    digests = []
    for color in (None, 0, 0xFFFFFF):
        graph = predict_graph("make it red", checkpoint=checkpoint)
        if checkpoint == mini_checkpoints.EDITING:
            graph["vision"] = node("ProbeClipVision", hidden_size=mini_checkpoints.SOURCE_FEATURE_DIM, kind="dinov2")
            graph["loader"]["inputs"]["clip_vision"] = ["vision", 0]
        graph["geometry"] = digest(GEOMETRY)
        if color is not None:
            graph["source"] = node("EmptyImage", width=80, height=48, batch_size=1, color=color)
            graph["predict"]["inputs"]["source"] = ["source", 0]
        digests += server.run(graph)["geometry"]["digest"]
    assert len(set(digests)) == 3


def test_a_checkpoint_written_again_is_loaded_again(server: ComfyServer) -> None:
    folder = server.base / "models" / "spatialfusion"
    graph = predict_graph(checkpoint="rewritten.safetensors") | {"geometry": digest(GEOMETRY)}
    (folder / "rewritten.safetensors").write_bytes((folder / mini_checkpoints.TOKEN).read_bytes())
    first = server.run(graph)["geometry"]["digest"]
    (folder / "rewritten.safetensors").write_bytes((folder / mini_checkpoints.EDITING).read_bytes())
    assert server.run(graph)["geometry"]["digest"] != first

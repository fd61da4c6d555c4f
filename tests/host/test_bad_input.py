"""Bad input: the error arrives on the node that caused it, names the remedy, and the server lives on."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from sf_model.config import MINI
from tests.host import mini_checkpoints
from tests.host.mini_graphs import MODEL, add_sampler, apply_graph, node, predict_graph
from tests.host.server import ComfyServer, Graph, PromptError


def checkpoint(name: str) -> Callable[[], Graph]:
    return lambda: add_sampler(apply_graph(checkpoint=name))


def geometry(kind: str, width: int = 64, batch: int = 1, latent_batch: int = 1) -> Callable[[], Graph]:
    def graph() -> Graph:
        measured = {"measured": node("ProbeGeometry", kind=kind, width=width, height=64, batch=batch)}
        return add_sampler(apply_graph(geometry=["measured", 0]), batch_size=latent_batch) | measured

    return graph


def not_flow_matching() -> Graph:
    graph = add_sampler(apply_graph(model=["eps", 0]))
    graph["eps"] = node("ProbeEpsModel", model=MODEL)
    return graph


def mask_batch() -> Graph:
    graph = add_sampler(apply_graph(mask=["masks", 0]), batch_size=2)
    graph["image"] = node("EmptyImage", width=64, height=64, batch_size=3, color=0xFFFFFF)
    graph["masks"] = node("ImageToMask", image=["image", 0], channel="red")
    return graph


def mask_shape() -> Graph:
    graph = add_sampler(apply_graph(mask=["mask", 0]))
    graph |= {name: node("SolidMask", value=value, width=64, height=32) for name, value in (("b", 0.0), ("w", 1.0))}
    graph["mask"] = node("MaskComposite", destination=["b", 0], source=["w", 0], x=32, y=0, operation="add")
    return graph


def source(
    checkpoint: str, hidden_size: int | None = None, batch: int = 1, kind: str = "dinov2"
) -> Callable[[], Graph]:
    def graph() -> Graph:
        graph = predict_graph(checkpoint=checkpoint)
        graph["image"] = node("EmptyImage", width=64, height=64, batch_size=batch, color=0)
        graph["predict"]["inputs"]["source"] = ["image", 0]
        if hidden_size is not None:
            graph["vision"] = node("ProbeClipVision", hidden_size=hidden_size, kind=kind)
            graph["loader"]["inputs"]["clip_vision"] = ["vision", 0]
        return graph

    return graph


EDITING, DIM = mini_checkpoints.EDITING, mini_checkpoints.SOURCE_FEATURE_DIM
# name: graph, the node that must complain, what it must say: the fault and the remedy
CASES: dict[str, tuple[Callable[[], Graph], str, str]] = {
    "MLLM with other layers": (
        checkpoint(mini_checkpoints.OTHER_LAYERS),
        "loader",
        "Load SpatialFusion Mini.*9 layers.*6 layers",
    ),
    "MLLM with other heads": (
        checkpoint(mini_checkpoints.OTHER_HEADS),
        "loader",
        "choose a checkpoint.*8 heads, 4 key/value heads.*4 heads, 2 key/value heads",
    ),
    "truncated file": (checkpoint(mini_checkpoints.TRUNCATED), "loader", "truncated.*download or export it again"),
    "not safetensors": (checkpoint(mini_checkpoints.NOT_SAFETENSORS), "loader", "text.*download or export it again"),
    "foreign safetensors": (checkpoint(mini_checkpoints.FOREIGN), "loader", "choose .*not a SpatialFusion checkpoint"),
    "latent channels": (
        checkpoint(mini_checkpoints.OTHER_CHANNELS),
        "apply",
        "load the diffusion model.*16 latent channels.*has 3",
    ),
    "token channels": (
        checkpoint(mini_checkpoints.OTHER_WIDTH),
        "apply",
        f"load the diffusion model.*320 token channels.*has {MINI.depth_adapter.out_channels}",
    ),
    "weights that are NaN": (checkpoint(mini_checkpoints.NOT_FINITE), "predict", "download or export checkpoint.*NaN"),
    "NaN": (geometry("nan"), "apply", "connect Predict Metric Depth.*NaN"),
    "negative depth": (geometry("negative"), "apply", "connect Predict Metric Depth.*negative"),
    "panorama": (geometry("panorama"), "apply", "connect Predict Metric Depth.*no camera"),
    "no depth": (geometry("without_depth"), "apply", "use a model that gives depth.*no depth"),
    "several views, not metres": (geometry("da3_views"), "apply", "load the Depth Anything 3 Metric.*not in metres"),
    "one view, not metres": (geometry("da3_small"), "apply", "MoGe 2.*not in metres"),
    "too many queries": (
        lambda: predict_graph(width=16384, height=16384),
        "predict",
        "6%.*same aspect ratio.*16384x16384 pixels are 4194304 queries.*at most 16384",
    ),
    "aspect ratio": (geometry("moge", width=96), "sampler", r"set width and height.*96x64.*64x64"),
    "geometry batch": (geometry("moge", batch=3, latent_batch=2), "sampler", "give one geom.*batch of 3.*batch of 2"),
    "mask batch": (mask_batch, "sampler", "give one mask.*mask has a batch of 3.*batch of 2"),
    "mask of another shape": (mask_shape, "apply", "crop one .*mask is 64x32 .*the geometry 64x64"),
    "not flow matching": (not_flow_matching, "apply", "load the diffusion model.*flow-matching.*is not"),
    "source, but no encoder in the checkpoint": (source(mini_checkpoints.TOKEN), "predict", "disconnect source"),
    "source, but no CLIP_VISION": (source(EDITING), "predict", "connect DINOv2"),
    "source batch": (source(EDITING, DIM, batch=2), "predict", "pick one.*got 2"),
    "other CLIP_VISION": (source(EDITING, 48), "loader", f"load the DINOv2.*{DIM} channels.*gives 48"),
    "CLIP instead of DINOv2": (
        source(EDITING, DIM, kind="clip_vision_model"),
        "loader",
        f"load the DINOv2.*dinov2.*clip_vision_model.*gives {DIM}",
    ),
    "CLIP_VISION beside patches": (source(mini_checkpoints.PATCHES, DIM), "loader", "disconnect.*needs no encoder"),
    "needless CLIP_VISION": (source(mini_checkpoints.TOKEN, DIM), "loader", "disconnect clip_vision"),
}


@pytest.mark.parametrize("case", CASES)
def test_error_is_on_the_right_node_with_a_remedy_and_the_server_lives_on(server: ComfyServer, case: str) -> None:
    graph, node_id, message = CASES[case]
    with pytest.raises(PromptError) as caught:
        server.run(graph())
    assert caught.value.kind == "execution"
    assert caught.value.node_id == node_id
    assert re.search(message, caught.value.message, re.DOTALL), caught.value.message
    server.run(add_sampler(apply_graph(), steps=1))


def test_a_file_that_is_not_there_is_refused_before_anything_runs(server: ComfyServer) -> None:
    with pytest.raises(PromptError, match="nowhere.safetensors") as caught:
        server.run(apply_graph(checkpoint="nowhere.safetensors"))
    assert (caught.value.kind, caught.value.node_id) == ("validation", "loader")


def test_sizes_below_the_minimum_are_refused(server: ComfyServer) -> None:
    with pytest.raises(PromptError, match="16") as caught:
        server.run(predict_graph(width=8))
    assert caught.value.node_id == "predict"


def test_inputs_of_other_types_are_refused(server: ComfyServer) -> None:
    graph = add_sampler(apply_graph(geometry=["base", 2]))
    del graph["preview"]  # else the host would run the graph for it
    with pytest.raises(PromptError, match="geometry") as caught:
        server.run(graph)
    assert caught.value.node_id == "apply"

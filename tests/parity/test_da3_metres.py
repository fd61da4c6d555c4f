"""Depth Anything 3 Metric in metres: metres = output * focal / 300, with the focal length of the size of the run.

The sizes of runs are compared with the host's own function, the metres with cases worked out by hand.
"""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import comfy.ldm.depth_anything_3.preprocess as preprocess
import pytest
import torch


@pytest.mark.parametrize("method", ["upper_bound_resize", "lower_bound_resize"])
@pytest.mark.parametrize("resolution", [140, 504, 518, 1008, 2520])
def test_runs_have_the_hosts_size(nodes: ModuleType, resolution: int, method: str) -> None:
    run = nodes.host.da3.Da3Run(resolution, method)
    for height, width in ((400, 600), (600, 400), (1080, 1920), (64, 64), (7, 4000), (511, 517), (1023, 769)):
        expected = preprocess.compute_target_size(height, width, resolution, method)
        assert run.size(height, width) == expected, (height, width)


def metric_geometry(height: int, width: int, output: float = 2.0) -> dict[str, Any]:
    """As Run Depth Anything 3 makes it with the Metric model: the network's output, at the size of the picture."""
    depth = torch.full((1, height, width), output)
    return {
        "depth": depth,
        "sky": torch.zeros_like(depth),
        "image": torch.zeros(1, height, width, 3),
        "mode": "mono",
    }


# Focal length 0.7 widths of the run, over 300: 504 px wide 352.8 / 300, 1008 px 705.6 / 300; 336 px (portrait) 0.784.
@pytest.mark.parametrize(
    "resolution, size, factor", [(504, (400, 600), 1.176), (1008, (400, 600), 2.352), (504, (600, 400), 0.784)]
)
def test_the_output_becomes_metres(nodes: ModuleType, resolution: int, size: tuple[int, int], factor: float) -> None:
    run = nodes.host.da3.Da3Run(resolution)
    depth = nodes.host.geometry.to_metric_depth(metric_geometry(*size), da3_run=run)
    torch.testing.assert_close(depth.depth, torch.full((1, *size), 2.0 * factor), rtol=1e-5, atol=0)


def test_half_the_field_of_view_is_twice_the_distance(nodes: ModuleType) -> None:
    """With a camera of its own: a focal length of 0.7 widths, and of twice that."""
    depths = []
    for focal_px in (0.7 * 504, 1.4 * 504):
        intrinsics = torch.tensor([[[[focal_px, 0, 252], [0, focal_px, 168], [0, 0, 1.0]]]])
        depths.append(nodes.host.geometry.to_metric_depth(metric_geometry(400, 600) | {"intrinsics": intrinsics}))
    assert depths[0].depth[0, 0, 0] == pytest.approx(2.0 * 1.176, rel=1e-5)
    torch.testing.assert_close(depths[1].depth, 2 * depths[0].depth)


def running(prompt: dict[str, Any], node_id: str) -> SimpleNamespace:
    """A node as the host runs it: with the prompt and its id. Tests that call it have the fixture `host_nodes`."""
    from comfy_execution.graph import DynamicPrompt  # imports the host's `nodes`

    return SimpleNamespace(hidden=SimpleNamespace(dynprompt=DynamicPrompt(prompt), unique_id=node_id))


def inference(resolution: Any, method: str = "upper_bound_resize", image: Any = None) -> dict[str, Any]:
    inputs = {"resolution": resolution, "resize_method": method, "mode": "mono", "image": image or ["photo", 0]}
    return {"class_type": "DA3Inference", "inputs": inputs}


def test_the_run_is_found_in_the_prompt(nodes: ModuleType, host_nodes: None) -> None:
    run = nodes.host.da3.Da3Run
    prompt = {
        "photo": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "draft": inference(140),
        "da3": inference(1008, "lower_bound_resize", image=["drawn", 0]),
        "drawn": {"class_type": "SomeSampler", "inputs": {"depth": ["draft", 0]}},
        "linked": inference(["photo", 0]),
        "switch": {"class_type": "Switch", "inputs": {"a": ["da3", 0], "b": ["da3", 0], "loop": ["switch", 0]}},
        "either": {"class_type": "Switch", "inputs": {"a": ["da3", 0], "b": ["draft", 0]}},
        "save": {"class_type": "SpatialFusionSaveDepth", "inputs": {"geometry": ["da3", 0]}},
        "save 2": {"class_type": "SpatialFusionSaveDepth", "inputs": {"geometry": ["switch", 0]}},
        "save 3": {"class_type": "SpatialFusionSaveDepth", "inputs": {"geometry": ["either", 0]}},
        "save 4": {"class_type": "SpatialFusionSaveDepth", "inputs": {"geometry": ["linked", 0]}},
        "save 5": {"class_type": "SpatialFusionSaveDepth", "inputs": {"geometry": ["gone", 0]}},
    }
    found = {name: nodes.host.da3.find_run(running(prompt, name), "geometry") for name in prompt if "save" in name}
    assert found["save"] == found["save 2"] == run(1008, "lower_bound_resize", found=True)
    assert found["save 3"] == found["save 4"] == found["save 5"] == run(504, "upper_bound_resize", found=False)
    assert nodes.host.da3.find_run(running(prompt, "nowhere"), "geometry") == run()
    assert nodes.host.da3.find_run(SimpleNamespace(), "geometry") == run()  # as tests call nodes


def test_every_node_that_reads_geometry_can_find_the_run(nodes: ModuleType) -> None:
    """Without the run's size the metres of Depth Anything 3 are another factor in each node."""
    schemas = [node.define_schema() for node in nodes.NODES]
    readers = [schema for schema in schemas if any("DA3_GEOMETRY" in socket.get_io_type() for socket in schema.inputs)]
    assert len(readers) >= 8
    without = [schema.display_name for schema in readers if not {*nodes.host.graph.GRAPH} <= {*schema.hidden}]
    assert without == []


def test_the_notice_says_what_was_assumed_and_the_metres(nodes: ModuleType, host_nodes: None) -> None:
    prompt = {
        "da3": inference(1008),
        "save": {"class_type": "SpatialFusionSaveDepth", "inputs": {"geometry": ["da3", 0]}},
    }
    connected = nodes.host.geometry.connected_depth
    _, notice = connected(running(prompt, "save"), metric_geometry(400, 600))
    assert "output times 2.35" in notice.text and "ran at 1008x672 pixels" in notice.text
    assert "Surfaces from 4.70 to 4.70 m" in notice.text and not notice.doubtful
    _, notice = connected(SimpleNamespace(), metric_geometry(400, 600))
    assert "not known how Run Depth Anything 3 ran, assumed is at 504x336" in notice.text and notice.doubtful
    assert connected(SimpleNamespace(), metric_geometry(400, 600), any_scale=True)[1] is None

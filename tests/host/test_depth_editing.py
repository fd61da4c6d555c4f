"""Blend, Adjust and Metric Depth to Images in real servers: metres, what reaches the sampler, and bad input."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.host import mini_checkpoints
from tests.host.mini_graphs import MODEL, add_sampler, apply_graph, node
from tests.host.server import ComfyServer, Graph, PromptError

WIDTH, HEIGHT = 64, 48
# The probe's plane, 2 m at the left to 6 m at the right, under a sky in the upper quarter.
PLANE = torch.linspace(2, 6, WIDTH).numpy()
SKY_ROWS = HEIGHT // 4


def measured(kind: str = "moge", width: int = WIDTH, height: int = HEIGHT, batch: int = 1) -> dict[str, Any]:
    return node("ProbeGeometry", kind=kind, width=width, height=height, batch=batch)


def solid(value: float, width: int = WIDTH, height: int = HEIGHT) -> dict[str, Any]:
    return node("SolidMask", value=value, width=width, height=height)


def right_half(name: str, width: int = WIDTH, height: int = HEIGHT) -> Graph:
    """A mask `name` that is white in its right half."""
    return {
        f"{name} black": solid(0.0, width, height),
        f"{name} white": solid(1.0, width // 2, height),
        name: node(
            "MaskComposite",
            destination=[f"{name} black", 0],
            source=[f"{name} white", 0],
            x=width // 2,
            y=0,
            operation="add",
        ),
    }


def adjust(geometry: str = "measured", output: int = 0, **options: Any) -> dict[str, Any]:
    inputs = {
        "scale": 1.0,
        "shift_m": 0.0,
        "distance_m": 0.0,
        "distance_moves": "region",
        "min_m": 0.0,
        "max_m": 0.0,
    } | options
    return node("SpatialFusionAdjustDepth", geometry=[geometry, output], **inputs)


def to_images(geometry: str = "measured", **options: Any) -> dict[str, Any]:
    inputs = {
        "near_m": 0.0,
        "far_m": 0.0,
        "mask_min_m": 0.0,
        "mask_max_m": 0.0,
        "normal_convention": "opengl",
    } | options
    return node("SpatialFusionDepthToImages", geometry=[geometry, 0], **inputs)


def blend(a: str, b: str, mask: str, ignore_camera: bool = False) -> dict[str, Any]:
    return node(
        "SpatialFusionBlendDepth",
        geometry_a=[a, 0],
        geometry_b=[b, 0],
        mask=[mask, 0],
        ignore_camera=ignore_camera,
    )


def saved(server: ComfyServer, graph: Graph, name: str) -> tuple[list[dict[str, np.ndarray]], dict[str, Any]]:
    """The arrays of the geometry that node `name` gives, image by image, and all outputs."""
    graph["save"] = node("SpatialFusionSaveDepth", geometry=[name, 0], filename_prefix="tests/edited")
    outputs = server.run(graph)
    files = outputs["save"]["metric_depth"]
    return [dict(np.load(io.BytesIO(server.view(file)), allow_pickle=False)) for file in files], outputs


def picture(server: ComfyServer, output: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(server.view(output["images"][0])))).astype(np.float32) / 255


def test_blend_takes_both_sides_and_the_mean_of_their_logarithms_between(server: ComfyServer) -> None:
    graph = {
        "near": measured(),
        "tripled": adjust("near", scale=3.0),
        "mask": solid(0.5, 2 * WIDTH, 2 * HEIGHT),  # of another size
        "even": blend("near", "tripled", "mask"),
        **right_half("half"),
        "sides": blend("even", "near", "half"),
    }
    (arrays,), outputs = saved(server, graph, "sides")
    expected = PLANE * np.where(np.arange(WIDTH) < WIDTH // 2, 3**0.5, 1)
    assert np.isinf(arrays["depth_m"][:SKY_ROWS]).all()
    np.testing.assert_allclose(
        arrays["depth_m"][SKY_ROWS:], np.broadcast_to(expected, (HEIGHT - SKY_ROWS, WIDTH)), rtol=1e-5
    )
    assert arrays["fov_y_deg"] == pytest.approx(90, abs=1e-3)
    assert outputs["sides"]["images"]  # shown on the node


def test_an_object_moves_to_2_metres_and_nothing_else_moves(server: ComfyServer) -> None:
    graph = {"measured": measured(), **right_half("region")}
    graph["moved"] = adjust(distance_m=2.0, mask=["region", 0])
    (arrays,), _ = saved(server, graph, "moved")
    ground = arrays["depth_m"][SKY_ROWS:]
    left, right = ground[:, : WIDTH // 2], ground[:, WIDTH // 2 :]
    assert (left == PLANE[: WIDTH // 2]).all()
    assert np.median(right) == pytest.approx(2.0, rel=0.02)  # the lower of the two middle columns is at 2 m
    assert (np.abs(right - 2) < 1e-5).any()
    np.testing.assert_allclose(right / PLANE[WIDTH // 2 :], np.full_like(right, right[0, 0] / PLANE[WIDTH // 2]), 1e-5)
    assert np.isinf(arrays["depth_m"][:SKY_ROWS]).all()


def test_scale_shift_and_limits_in_order(server: ComfyServer) -> None:
    graph = {"measured": measured(), "adjusted": adjust(scale=2.0, shift_m=-1.0, min_m=4.0, max_m=9.0)}
    (arrays,), _ = saved(server, graph, "adjusted")
    expected = np.clip(PLANE * 2 - 1, 4, 9)
    np.testing.assert_allclose(arrays["depth_m"][-1], expected, rtol=1e-6)


@pytest.mark.parametrize("kind, fov_y_deg", [("da3_small", None), ("da3_views", 90.0)])
def test_a_known_distance_makes_metres_of_a_depth_without_a_unit(
    server: ComfyServer, kind: str, fov_y_deg: float | None
) -> None:
    """And Depth Adapter Apply then takes it; the intrinsics of several views give the camera."""
    graph = apply_graph(geometry=["calibrated", 0], checkpoint=mini_checkpoints.TOKEN)
    graph |= {"measured": measured(kind, 64, 64, batch=2), **right_half("object", 64, 64)}
    graph["calibrated"] = adjust(distance_m=10.0, distance_moves="whole image", mask=["object", 0])
    add_sampler(graph, batch_size=2, steps=1)
    images, _ = saved(server, graph, "calibrated")
    assert len(images) == 2
    factor = 10 / np.sort(PLANE[32:])[15]  # the lower of the two middle columns
    if fov_y_deg is None:
        fov_y_deg = float(np.degrees(2 * np.arctan(0.5 / 0.7)))
    for arrays in images:
        np.testing.assert_allclose(arrays["depth_m"], np.broadcast_to(PLANE * factor, (64, 64)), rtol=1e-5)
        assert arrays["fov_y_deg"] == pytest.approx(fov_y_deg, abs=1e-3)
        assert (arrays["confidence"] == 1).all()


@pytest.mark.parametrize("checkpoint", [mini_checkpoints.TOKEN, mini_checkpoints.LATENT])
def test_where_the_confidence_is_0_the_model_is_free(server: ComfyServer, checkpoint: str) -> None:
    """Black everywhere is the model without depth, white the depth as it is, bit for bit; half of it is neither."""
    graph = add_sampler(apply_graph(checkpoint=checkpoint), steps=2)
    add_sampler(graph, model=MODEL, name="without", steps=2)
    graph |= {"black": solid(0.0, 128, 128), "white": solid(1.0, 128, 128), **right_half("half", 128, 128)}
    for mask in ("black", "white", "half"):
        graph[f"{mask} depth"] = adjust("predict", confidence_mask=[mask, 0])
        graph[f"{mask} apply"] = {
            **graph["apply"],
            "inputs": {**graph["apply"]["inputs"], "geometry": [f"{mask} depth", 0]},
        }
        add_sampler(graph, model=[f"{mask} apply", 0], name=mask + " sampler", steps=2)
    outputs = server.run(graph)
    digests = {
        name: outputs[f"{name} digest"]["digest"]
        for name in ("sampler", "without", "black sampler", "white sampler", "half sampler")
    }
    assert digests["sampler"] != digests["without"]
    assert digests["black sampler"] == digests["without"]
    assert digests["white sampler"] == digests["sampler"]
    assert digests["half sampler"] not in (digests["without"], digests["sampler"])


def test_pictures_by_hand(server: ComfyServer) -> None:
    graph = {"measured": measured(), "images": to_images(near_m=2.0, far_m=6.0, mask_min_m=3.0, mask_max_m=4.0)}
    graph["depth"] = node("PreviewImage", images=["images", 0])
    graph["as image"] = node("MaskToImage", mask=["images", 1])
    graph["mask"] = node("PreviewImage", images=["as image", 0])
    graph["normals"] = node("PreviewImage", images=["images", 2])
    outputs = server.run(graph)
    disparity = (1 / PLANE - 1 / 6) / (1 / 2 - 1 / 6)
    depth = picture(server, outputs["depth"])
    assert depth.shape == (HEIGHT, WIDTH, 3)
    assert (depth[:SKY_ROWS] == 0).all()
    np.testing.assert_allclose(depth[-1], np.repeat(disparity[:, None], 3, axis=1), atol=1.01 / 255)
    expected = np.broadcast_to((PLANE >= 3) & (PLANE <= 4), (HEIGHT - SKY_ROWS, WIDTH))
    assert (picture(server, outputs["mask"])[SKY_ROWS:, :, 0] == expected).all()
    assert (picture(server, outputs["mask"])[:SKY_ROWS] == 0).all()
    normals = picture(server, outputs["normals"])
    np.testing.assert_allclose(normals[:SKY_ROWS], 0.5, atol=1.01 / 255)
    # It gets farther to the right, like the left wall of a corridor: it faces right (red) and the camera (blue).
    assert (normals[SKY_ROWS:, :, 0] > 0.5).all() and (normals[SKY_ROWS:, 1:, 2] > 0.5).all()


def test_the_depth_picture_is_the_hosts(newest_server: ComfyServer) -> None:
    """0.18.2 has no Render MoGe Geometry. It reads the sky from the depth alone, hence a geometry with inf there."""
    graph = {
        "raw": measured(),
        "measured": adjust("raw"),
        "images": to_images(),
        "ours": node("PreviewImage", images=["images", 0]),
        "render": node("MoGeRender", moge_geometry=["measured", 0], output="depth"),
        "host's": node("PreviewImage", images=["render", 0]),
    }
    outputs = newest_server.run(graph)
    ours, theirs = (picture(newest_server, outputs[name]) for name in ("ours", "host's"))
    assert np.abs(ours - theirs).max() <= 1.01 / 255
    assert ours.max() == 1


def test_depth_without_any_surface_or_of_one_distance_gives_black_pictures(server: ComfyServer) -> None:
    graph: Graph = {}
    for kind in ("infinite", "constant"):
        graph |= {kind: measured(kind), f"{kind} images": to_images(kind)}
        graph[f"{kind} depth"] = node("PreviewImage", images=[f"{kind} images", 0])
    graph["edited"] = adjust("infinite", scale=2.0, max_m=5.0)
    (arrays,), outputs = saved(server, graph, "edited")
    assert np.isinf(arrays["depth_m"]).all()
    assert all((picture(server, outputs[f"{kind} depth"]) == 0).all() for kind in ("infinite", "constant"))


def whole_mask(value: float) -> Graph:
    """A mask "mask" of one value."""
    return {"mask": solid(value)}


SQUARE_MASK = right_half("mask", 64, 64)


def adjusting(
    kind: str = "moge", mask: Graph | None = None, mask_input: str = "mask", **options: Any
) -> Callable[[], Graph]:
    def graph() -> Graph:
        nodes = {"measured": measured(kind), "digest": node("ProbeDigest", value=["edit", 0])}
        if mask is None:
            return nodes | {"edit": adjust(**options)}
        return nodes | mask | {"edit": adjust(**{mask_input: ["mask", 0]}, **options)}

    return graph


def blending(mask: Graph | None = None, second: dict[str, Any] | None = None) -> Callable[[], Graph]:
    def graph() -> Graph:
        return {
            "a": measured(),
            "b": second or measured(),
            **(mask or whole_mask(0.5)),
            "edit": blend("a", "b", "mask"),
            "digest": node("ProbeDigest", value=["edit", 0]),
        }

    return graph


def picturing(kind: str = "moge", **options: Any) -> Callable[[], Graph]:
    return lambda: {
        "measured": measured(kind),
        "edit": to_images(**options),
        "digest": node("ProbeDigest", value=["edit", 0]),
    }


def mask_batch() -> Graph:
    graph = adjusting(mask={"mask": node("ImageToMask", image=["image", 0], channel="red")})()
    graph["image"] = node("EmptyImage", width=WIDTH, height=HEIGHT, batch_size=3, color=0xFFFFFF)
    graph["measured"] = measured(batch=2)
    return graph


CASES: dict[str, tuple[Callable[[], Graph], str]] = {
    "adjust zero depth": (adjusting("zero"), "connect Predict Metric Depth.*zero or negative"),
    "adjust negative depth": (adjusting("negative"), "connect Predict Metric Depth.*zero or negative"),
    "adjust NaN": (adjusting("nan"), "connect Predict Metric Depth.*NaN"),
    "adjust without metres": (
        adjusting("da3_small"),
        "distance_m of something in the image in Adjust Metric Depth.*not in metres",
    ),
    "adjust a region without metres": (
        adjusting("da3_small", mask=whole_mask(1.0), distance_m=2.0),
        "moving the whole image.*not in metres",
    ),
    "intrinsics that contradict the size": (adjusting("stretched"), "intrinsics contradict.*square.*64x48"),
    "principal point off the centre": (
        adjusting("cropped"),
        "principal point is off the centre, at 0.70 of its width and 0.50.*measure the depth after the crop",
    ),
    "mask of another shape": (adjusting(mask=SQUARE_MASK), "crop.*mask is 64x64.*geometry 64x48"),
    "mask batch": (mask_batch, "give one geometry for all images, or 3.*geometry 2, mask 3"),
    "confidence mask of another shape": (
        adjusting(mask=SQUARE_MASK, mask_input="confidence_mask"),
        "crop.*confidence_mask is 64x64",
    ),
    "shift behind the camera": (adjusting(shift_m=-2.5), "shift by less.*behind the camera. The nearest is 2 m"),
    "black mask": (adjusting(mask=whole_mask(0.0), distance_m=2.0), "paint the mask.*covers none"),
    "no surface": (adjusting("infinite", distance_m=2.0), "covers none"),
    "min above max": (adjusting(min_m=3.0, max_m=2.0), "swap min_m and max_m.*min_m 3 is above max_m 2"),
    "blend mask of another shape": (blending(SQUARE_MASK), "crop.*mask is 64x64.*geometry 64x48"),
    "blend geometry of another shape": (
        blending(second=measured(width=64, height=64)),
        "crop.*second geometry is 64x64.*the first 64x48",
    ),
    "blend other camera": (blending(second=measured("da3")), "ignore_camera.*fields of view differ.*90.0 and 56"),
    "blend NaN": (blending(second=measured("nan")), "connect Predict Metric Depth.*NaN"),
    "blend without metres": (blending(second=measured("da3_views")), "Adjust Metric Depth.*not in metres"),
    "picture of zero depth": (picturing("zero"), "zero or negative"),
    "near above far": (picturing(near_m=4.0, far_m=2.0), "swap near_m and far_m.*near_m 4 must be below far_m 2"),
    "near beyond everything": (
        picturing(near_m=50.0),
        ", from 2 to 6 m, .*near_m 50 is behind everything.*white",
    ),
    "far before everything": (picturing(far_m=1.0), ", from 2 to 6 m, .*far_m 1 is in front.*black"),
    "mask range reversed": (
        picturing(mask_min_m=4.0, mask_max_m=2.0),
        "swap mask_min_m and mask_max_m.*mask_min_m 4 is above mask_max_m 2",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_error_is_on_the_right_node_with_a_remedy_and_the_server_lives_on(server: ComfyServer, case: str) -> None:
    graph, message = CASES[case]
    with pytest.raises(PromptError) as caught:
        server.run(graph())
    assert (caught.value.kind, caught.value.node_id) == ("execution", "edit")
    assert re.search(message, caught.value.message, re.DOTALL), caught.value.message
    assert server.run(adjusting(scale=2.0)())["digest"]["digest"]


def test_values_out_of_range_are_refused_before_anything_runs(server: ComfyServer) -> None:
    for name, value in (("scale", 0.0), ("distance_m", -1.0), ("max_m", -1.0)):
        with pytest.raises(PromptError, match=name) as caught:
            server.run(adjusting(**{name: value})())
        assert (caught.value.kind, caught.value.node_id) == ("validation", "edit")

"""What the pack's nodes take and refuse before they run, whatever is linked to them."""

from __future__ import annotations

import inspect
import math
from types import ModuleType
from typing import Any

import pytest
import torch

BOX = {
    "shape": "box",
    "width_m": 1.0,
    "height_m": 1.0,
    "length_m": 1.0,
    "x_m": 0.0,
    "y_m": 0.0,
    "z_m": 4.0,
    "heading_deg": 0.0,
    "pitch_deg": 0.0,
    "roll_deg": 0.0,
}
COMPOSE = {
    "width": 16,
    "height": 16,
    "camera_height_m": 1.0,
    "camera_pitch_deg": 0.0,
    "fov_y_deg": 50.0,
    "ground": True,
    "ground_extent_m": 100.0,
    "ground_confidence": 1.0,
    "background_confidence": 1.0,
}
ADJUST = {
    "scale": 1.0,
    "shift_m": 0.0,
    "distance_m": 0.0,
    "distance_moves": "region",
    "min_m": 0.0,
    "max_m": 0.0,
}
SAMPLE = {
    "seed": 0,
    "steps": 1,
    "cfg": 1.0,
    "sampler_name": "euler",
    "scheduler": "simple",
    "denoise": 1.0,
    "depth_guidance": 1.0,
}


def geometry(**parts: Any) -> dict[str, Any]:
    focal = torch.tensor([[[0.5, 0, 0.5], [0, 0.5, 0.5], [0, 0, 1]]])
    return {"depth": torch.full((2, 8, 8), 3.0), "intrinsics": focal, "image": torch.zeros(1, 8, 8, 3)} | parts


WIDGETS: list[tuple[Any, str]] = [
    ({"width": "64"}, "set or connect width to a whole number from 16 to 4096: .* of type str .'64'"),
    ({"width": 8}, "set or connect width to a whole number from 16 to 4096: .* of type int .8"),
    ({"width": 16.5}, "set or connect width to a whole number"),
    ({"width": True}, "set or connect width to a whole number"),
    ({"width": 10**400}, "set or connect width to a whole number"),
    ({"width": torch.ones(2)}, "set or connect width to a whole number.*Tensor"),
    ({"width": None}, "connect width to a node that gives something"),
    ({"fov_y_deg": math.nan}, "set or connect fov_y_deg to a number from 1 to 170.*nan"),
    ({"fov_y_deg": math.inf}, "set or connect fov_y_deg to a number from 1 to 170"),
    ({"fov_y_deg": "50"}, "set or connect fov_y_deg to a number from 1 to 170"),
    ({"ground": 1}, "set or connect ground to on or off"),
    ({"objects": (object(),)}, "connect objects of Scaffold Object or Scaffold Mesh to objects: .*tuple"),
]


@pytest.mark.parametrize("changes, message", WIDGETS, ids=lambda value: "")
def test_other_widget_values_are_refused(nodes: ModuleType, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nodes.SpatialFusionComposeDepth.execute(**(COMPOSE | changes))


def test_what_calculating_nodes_give_is_taken(nodes: ModuleType) -> None:
    """A whole number as a float, a tensor of one number, a number as an int; None for what is optional."""
    given = COMPOSE | {"width": 32.0, "height": torch.tensor(16), "fov_y_deg": 40, "objects": None, "camera_info": None}
    shape = nodes.SpatialFusionComposeDepth.execute(**given).args[0]["depth"].shape
    assert shape == (1, 16, 32)


def test_choices_are_compared_with_the_list(nodes: ModuleType) -> None:
    execute = nodes.SpatialFusionScaffoldObject.execute
    assert execute(**BOX).args[0][0].shape == "box"
    for value in ("cube", None, 3, ["box"]):
        with pytest.raises(ValueError, match="shape to one of 'box'|connect shape to a node"):
            execute(**(BOX | {"shape": value}))


PARTS: list[tuple[Any, str]] = [
    ("text", "connect a geometry .* to geometry: .* is a str"),
    (geometry(depth="text"), "depth of the connected one is of type str, and not a tensor"),
    (geometry(depth=torch.ones(2, 8, 8).numpy()), "depth of the connected one is of type ndarray"),
    (geometry(depth=None), "use a model that gives depth"),
    (geometry(depth=torch.ones(8, 8)), r"connect a geometry with a depth .* \(8, 8\)"),
    (geometry(depth=torch.empty(0, 8, 8)), "connect .*depth must be a non-empty|do not belong together"),
    (geometry(depth=torch.ones(2, 8, 8, dtype=torch.complex64)), "a tensor of torch.complex64"),
    (geometry(mask=torch.ones(2, 8, 9)), r"mask \(2, 8, 9\) and depth \(2, 8, 8\) of the connected one do not belong"),
    (geometry(mask=torch.ones(3, 8, 8)), "mask .* do not belong together"),
    (geometry(sky=[1]), "sky of the connected one is of type list"),
    (geometry(confidence=torch.ones(8)), "confidence .* do not belong together"),
    (geometry(image=torch.ones(2, 8, 8)), "image .* do not belong together"),
    (geometry(image=torch.ones(2, 8, 8, 1)), "image .* do not belong together"),
    (geometry(image=torch.ones(3, 8, 8, 3)), "image .* do not belong together"),
    (geometry(points=torch.ones(2, 8, 8, 2)), "points .* do not belong together"),
    (geometry(normal=torch.ones(2, 4, 8, 3)), "normal .* do not belong together"),
    (geometry(intrinsics=torch.ones(2, 2)), r"intrinsics \(2, 2\) of the connected one are not one 3x3 matrix"),
    (geometry(intrinsics=torch.ones(3, 3, 3)), "are not one 3x3 matrix for each of its 2 images"),
]


@pytest.mark.parametrize("value, message", PARTS, ids=lambda value: "")
def test_broken_parts_of_a_geometry_are_refused(nodes: ModuleType, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nodes.SpatialFusionAdjustDepth.execute(geometry=value, **ADJUST)


def test_parts_that_are_none_are_as_if_they_were_missing(nodes: ModuleType) -> None:
    """One image for both, half precision, and a mask of another type: all of it is used elsewhere."""
    parts = geometry(mask=None, confidence=None, points=None, normal=None, sky=None, mode=None)
    parts["depth"] = parts["depth"].half()
    made = nodes.SpatialFusionAdjustDepth.execute(geometry=parts, **ADJUST).args[0]
    assert torch.equal(made["depth"], torch.full((2, 8, 8), 3.0))


SOCKETS: list[tuple[str, Any, str]] = [
    (
        "positive",
        [],
        "connect an encoded prompt to positive, from Predict Metric Depth or CLIP Text Encode: an empty list",
    ),
    ("positive", [["text", {}]], "connect an encoded prompt to positive"),
    ("negative", [[torch.ones(1, 4, 8)]], "connect an encoded prompt to negative"),
    ("latent_image", {}, "connect a latent to latent_image.* a dict whose samples are a value of type NoneType"),
    ("latent_image", {"samples": torch.empty(1, 3, 0, 8)}, r"connect a latent to latent_image.*\(1, 3, 0, 8\)"),
    ("latent_image", {"samples": torch.ones(1, 3, 8, 8), "noise_mask": "text"}, "connect another mask to Set Latent"),
    ("model", None, "connect model to a node that gives something"),
    ("model", object(), "connect the diffusion model of a loader to model: a value of type object"),
]


@pytest.mark.parametrize("name, value, message", SOCKETS, ids=lambda value: "")
def test_sockets_take_what_they_are_for(nodes: ModuleType, name: str, value: Any, message: str) -> None:
    good = {
        "model": nodes.mini.loader.load_mini_model(),
        "positive": [[torch.ones(1, 4, 8), {}]],
        "negative": [[torch.ones(1, 4, 8), {}]],
        "latent_image": {"samples": torch.ones(1, 3, 8, 8)},
    }
    with pytest.raises(ValueError, match=message):
        nodes.SpatialFusionSampler.execute(**SAMPLE, **(good | {name: value}))


IMAGES: list[tuple[Any, str]] = [
    (torch.ones(8, 8, 3), r"connect an image to image.*a tensor \(8, 8, 3\) of float32"),
    (torch.ones(1, 8, 8, 3, dtype=torch.uint8), "connect an image to image.*uint8"),
    (torch.ones(1, 0, 8, 3), "connect an image to image"),
    ([torch.ones(1, 8, 8, 3)], "connect an image to image.*a value of type list"),
]


@pytest.mark.parametrize("image, message", IMAGES, ids=lambda value: "")
def test_images_and_masks_are_batches_of_numbers(nodes: ModuleType, image: Any, message: str) -> None:
    execute = nodes.SpatialFusionImageToDepth.execute
    options = {"near_m": 1.0, "far_m": 9.0, "encoding": "depth", "invert": False, "fov_y_deg": 50.0}
    with pytest.raises(ValueError, match=message):
        execute(image=image, **options)
    with pytest.raises(ValueError, match=r"connect a mask to mask.*\(8,\)"):
        execute(image=torch.ones(1, 8, 8, 3), mask=torch.ones(8), **options)


def test_texts_are_texts(nodes: ModuleType) -> None:
    for value in (5, ["a"], "a\0b"):
        with pytest.raises(ValueError, match="set or connect filename_prefix to a text without null characters"):
            nodes.SpatialFusionSaveDepth.execute(geometry=geometry(), filename_prefix=value)


def test_every_node_is_checked_and_shows_its_own_parameters(nodes: ModuleType) -> None:
    for node in nodes.NODES:
        names = [entry.id for entry in node.define_schema().inputs]
        parameters = list(inspect.signature(node.execute).parameters)
        assert set(names) <= set(parameters), node
        assert inspect.unwrap(node.execute.__func__) is not node.execute.__func__, node

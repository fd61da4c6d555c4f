"""Plan Scene Layout and Layout Conditioning in real servers, with text encoders of the real architectures."""

from __future__ import annotations

import io
import itertools
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sf_model.scaffold.layout import compose_layout
from sf_model.scaffold.layout_reading import read_layout
from tests.host.mini_graphs import digest, node
from tests.host.server import ComfyServer, Graph, PromptError

PROMPT = "a red car 6 m away, facing left; a tree behind the car"
TEXT = """```json
{camera: {height: "1.4 m", tilt: 6, fov: 50},
 "objects": [{'name': 'red car', 'position': [0, 20]}, {"name": "tree", "x": 3, "z": 9},]}
```"""


# The oldest host tells nothing of nodes that it did not run again. The text decides, not the seed.
SEEDS = itertools.count()


def plan(**options: Any) -> dict[str, Any]:
    inputs = {"prompt": PROMPT, "seed": next(SEEDS), "width": 512, "height": 512}
    return node("SpatialFusionPlanLayout", **(inputs | options))


def text_graph(**options: Any) -> Graph:
    return {
        "text": node("PrimitiveStringMultiline", value=TEXT),
        "plan": plan(text=["text", 0], **options),
        "json": node("PreviewAny", source=["plan", 1]),
        "notes": node("PreviewAny", source=["plan", 2]),
    }


def shown(outputs: dict[str, Any], name: str) -> str:
    return outputs[name]["text"][0]


def test_a_text_of_another_language_model_becomes_the_layout_that_the_words_want(server: ComfyServer) -> None:
    outputs = server.run(text_graph())
    layout = read_layout(shown(outputs, "json"))
    assert layout.notes == ()
    car, tree = layout.layout.objects
    assert (car.name, car.shape, tree.shape) == ("red car", "car", "tree")
    assert 6.0 < car.position_m[2] < 7.5 and 250 < car.heading_deg < 290
    assert tree.position_m[2] > car.position_m[2] + 2.0
    notes = shown(outputs, "notes")
    assert "size of 'red car' taken as 1.8 x 1.48 x 4.4 m" in notes
    assert "'red car' was changed to be 6 m away, as the words say" in notes
    assert outputs["plan"]["text"] == [notes]


def test_a_language_model_that_writes_nonsense_is_asked_again_and_then_shown(server: ComfyServer) -> None:
    """Random weights write random words."""
    graph = {
        "clip": node("ProbeTinyClip", architecture="z_image", stored="float32", seed=0, type=""),
        "plan": plan(clip=["clip", 0], attempts=2, max_tokens=64),
        "json": node("PreviewAny", source=["plan", 1]),
    }
    with pytest.raises(
        PromptError, match="use a larger language model.*after 2 attempts.*The last answer was"
    ) as error:
        server.run(graph)
    assert error.value.node_type == "SpatialFusionPlanLayout"


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "connect a text encoder to clip, or a layout as text: nothing is connected"),
        ({"clip": ["clip", 0], "text": ["text", 0]}, "both is connected"),
        ({"clip": ["clip", 0]}, r"connect the text encoder of Z-Image.*\(Omnigen2TEModel\) cannot write text"),
        ({"clip": ["vision", 0]}, r"connect the text encoder of Z-Image.*\(QwenImageTEModel\) cannot write text"),
        ({"clip": ["writer", 0], "image": ["picture", 0]}, "disconnect image.*this one sees none"),
        ({"clip": ["writer", 0], "prompt": " "}, "write what the picture shows"),
        ({"text": ["novel", 0]}, "write a layout such as.*there is none in this text: 'It was a dark"),
    ],
)
def test_what_cannot_be_planned(newest_server: ComfyServer, options: dict[str, Any], message: str) -> None:
    graph = {
        "clip": node("ProbeTinyClip", architecture="omnigen2", stored="float32", seed=0, type=""),
        "writer": node("ProbeTinyClip", architecture="z_image", stored="float32", seed=0, type=""),
        "vision": node("ProbeTinyClip", architecture="qwen_image", stored="float32", seed=0, type=""),
        "text": node("PrimitiveStringMultiline", value=TEXT),
        "novel": node("PrimitiveStringMultiline", value="It was a dark and stormy night. " * 3000),
        "picture": node("EmptyImage", width=64, height=64, batch_size=1, color=0),
        "plan": plan(**options),
        "json": node("PreviewAny", source=["plan", 1]),
    }
    with pytest.raises(PromptError, match=message):
        newest_server.run(graph)


def composed(**options: Any) -> dict[str, Any]:
    inputs = {"width": 96, "height": 64, "camera_height_m": 9.0, "camera_pitch_deg": 80.0, "fov_y_deg": 20.0}
    rest = {"ground": True, "ground_extent_m": 100.0, "ground_confidence": 1.0, "background_confidence": 1.0}
    return node("SpatialFusionComposeDepth", **(inputs | rest | options))


def test_a_layout_is_composed_with_its_camera_and_before_other_objects(server: ComfyServer) -> None:
    """The widgets of the camera do not matter. Masks: the layout's objects first, then the others."""
    solid = {"shape": "box", "width_m": 0.5, "height_m": 0.5, "length_m": 0.5, "x_m": -1.0, "y_m": 0.0, "z_m": 3.0}
    angles = {"heading_deg": 0.0, "pitch_deg": 0.0, "roll_deg": 0.0}
    graph = text_graph() | {
        "box": node("SpatialFusionScaffoldObject", **solid, **angles),
        "compose": composed(layout=["plan", 0], objects=["box", 0]),
        "by text": composed(layout=["plan", 1]),
        "alone": composed(layout=["plan", 0]),
        "count": node("MaskToImage", mask=["compose", 2]),
        "previews": node("PreviewImage", images=["count", 0]),
    }
    for name in ("compose", "by text", "alone"):
        graph[f"save {name}"] = node("SpatialFusionSaveDepth", geometry=[name, 0], filename_prefix="tests/layout")
    outputs = server.run(graph)

    def arrays(name: str) -> Any:
        return np.load(io.BytesIO(server.view(outputs[f"save {name}"]["metric_depth"][0])), allow_pickle=False)

    layout = read_layout(shown(outputs, "json")).layout
    mine = compose_layout(layout, 96, 64)
    assert arrays("by text")["fov_y_deg"] == pytest.approx(50.0)
    np.testing.assert_allclose(arrays("by text")["depth_m"], mine.depth.depth[0].numpy(), rtol=1e-6)
    # The socket carries the layout before its text is rounded.
    np.testing.assert_allclose(arrays("alone")["depth_m"], mine.depth.depth[0].numpy(), rtol=2e-3)
    assert (arrays("compose")["depth_m"] < arrays("alone")["depth_m"] - 0.5).sum() > 20
    masks = [Image.open(io.BytesIO(server.view(file))).convert("L") for file in outputs["previews"]["images"]]
    assert len(masks) == 3
    lit = [np.asarray(mask) > 127 for mask in masks]
    assert all(mask.sum() > 20 for mask in lit)
    assert np.argwhere(lit[2])[:, 1].mean() < 40 < np.argwhere(lit[0])[:, 1].mean()


def conditioning_graph(**options: Any) -> Graph:
    inputs = {
        "clip": ["mini", 1],
        "layout": ["plan", 0],
        "prompt": "a street",
        "width": 96,
        "height": 64,
        "camera_words": True,
        "object_strength": 1.0,
    }
    return text_graph() | {
        "mini": node("SpatialFusionMiniLoader"),
        "condition": node("SpatialFusionLayoutConditioning", **(inputs | options)),
        "digest": digest(["condition", 0]),
        "prompt": node("PreviewAny", source=["condition", 1]),
        "masks": node("MaskToImage", mask=["condition", 2]),
        "mask previews": node("PreviewImage", images=["masks", 0]),
        "names": node("PreviewAny", source=["condition", 3]),
    }


def stock_conditioning() -> Graph:
    """The same by the host's own nodes."""
    graph: Graph = {"whole": node("CLIPTextEncode", clip=["mini", 1], text=["condition", 1])}
    last = ["whole", 0]
    for index, name in enumerate(("red car", "tree")):
        graph |= {
            f"image {index}": node("ImageFromBatch", image=["masks", 0], batch_index=index, length=1),
            f"mask {index}": node("ImageToMask", image=[f"image {index}", 0], channel="red"),
            f"words {index}": node("CLIPTextEncode", clip=["mini", 1], text=name),
            f"set {index}": node(
                "ConditioningSetMask",
                conditioning=[f"words {index}", 0],
                mask=[f"mask {index}", 0],
                strength=1.0,
                set_cond_area="default",
            ),
            f"both {index}": node("ConditioningCombine", conditioning_1=last, conditioning_2=[f"set {index}", 0]),
        }
        last = [f"both {index}", 0]
    return graph | {"stock digest": digest(last)}


def test_each_object_has_its_words_in_its_mask_as_by_the_hosts_own_nodes(server: ComfyServer) -> None:
    outputs = server.run(conditioning_graph() | stock_conditioning())
    assert outputs["digest"]["digest"] == outputs["stock digest"]["digest"]
    assert shown(outputs, "prompt") == "a street, eye level, 26 mm wide-angle lens"
    assert shown(outputs, "names") == "red car\ntree"
    layout = read_layout(shown(outputs, "json")).layout
    mattes = compose_layout(layout, 96, 64).mattes()
    for name, file in zip(("red car", "tree"), outputs["mask previews"]["images"]):
        picture = Image.open(io.BytesIO(server.view(file))).convert("L")
        white = int((np.asarray(picture) > 127).sum())
        # The text of the layout is rounded to 0.1 mm.
        assert white == pytest.approx(mattes[name].sum().item(), abs=3) and white > 50


def test_a_layout_as_text_strength_zero_and_given_masks(newest_server: ComfyServer) -> None:
    graph = conditioning_graph(object_strength=0.0, camera_words=False) | {
        "whole": node("CLIPTextEncode", clip=["mini", 1], text="a street"),
        "whole digest": digest(["whole", 0]),
        "by text": node(
            "SpatialFusionLayoutConditioning",
            **conditioning_graph()["condition"]["inputs"] | {"layout": ["plan", 1]},
        ),
        "by layout": node("SpatialFusionLayoutConditioning", **conditioning_graph()["condition"]["inputs"]),
        "text names": node("PreviewAny", source=["by text", 3]),
        "text digest": digest(["by text", 1]),
        "layout digest": digest(["by layout", 1]),
    }
    outputs = newest_server.run(graph)
    assert outputs["digest"]["digest"] == outputs["whole digest"]["digest"]
    assert outputs["text digest"]["digest"] == outputs["layout digest"]["digest"]
    assert shown(outputs, "text names") == "red car\ntree"
    wrong = conditioning_graph(masks=["one", 0]) | {"one": node("SolidMask", value=1.0, width=8, height=8)}
    with pytest.raises(PromptError, match="one mask for each object.*1 masks for 2 objects"):
        newest_server.run(wrong)


def test_an_image_by_layout_conditioning_differs_from_the_plain_one(newest_server: ComfyServer) -> None:
    def sampled(positive: list[Any], name: str) -> Graph:
        inputs = {"seed": 3, "steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
        sampler = node(
            "KSampler", model=["mini", 0], positive=positive, negative=["no", 0], latent_image=["latent", 0], **inputs
        )
        return {name: sampler, f"{name} digest": digest([name, 0])}

    graph = conditioning_graph() | {
        "no": node("CLIPTextEncode", clip=["mini", 1], text=""),
        "whole": node("CLIPTextEncode", clip=["mini", 1], text=["condition", 1]),
        "latent": node("EmptyLatentImage", width=128, height=128, batch_size=1),
    }
    graph["pixels"] = node("EmptyImage", width=128, height=128, batch_size=1, color=0)
    graph["latent"] = node("VAEEncode", pixels=["pixels", 0], vae=["mini", 2])
    outputs = newest_server.run(graph | sampled(["condition", 0], "regional") | sampled(["whole", 0], "plain"))
    assert outputs["regional digest"]["digest"] != outputs["plain digest"]["digest"]


def test_the_schema_of_the_layout_socket(server: ComfyServer) -> None:
    inputs = server.object_info("SpatialFusionLayoutConditioning")["input"]
    assert inputs["required"]["layout"][0] == "SPATIALFUSION_LAYOUT,STRING"
    assert json.dumps(server.object_info("SpatialFusionPlanLayout")["output"]) == (
        '["SPATIALFUSION_LAYOUT", "STRING", "STRING"]'
    )

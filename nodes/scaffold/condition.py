"""Layout Conditioning: each object's words hold where the object is seen, by the host's regional conditioning."""

from __future__ import annotations

import comfy.model_management
import comfy.sd
import node_helpers
import torch
from comfy_api.v0_0_2 import io

from ...sf_model.scaffold.layout import Layout, compose_layout, unique_names
from ...sf_model.scaffold.layout_words import camera_words
from ..host.images import to_host
from ..host.layouts import NoLayout, read_given
from ..inputs import BUILD_CATEGORY, aliases, layout_input, size_inputs
from .inputs import check_masks

MAX_SIZE_PX = 4096
NAME = "{name}"


class SpatialFusionLayoutConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpatialFusionLayoutConditioning",
            display_name="Layout Conditioning",
            category=BUILD_CATEGORY,
            description=(
                "Encodes a prompt for the whole image, and the words of each object of a layout for the place where it "
                "is seen. So a red car and a blue chair keep their colours. Every visible object costs one more run of "
                "the model in each step."
            ),
            search_aliases=aliases(
                "regional prompt",
                "regional conditioning",
                "area conditioning",
                "attention couple",
                "mask conditioning",
                "object masks",
                "segmentation",
                "layout",
            ),
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder of your model."),
                layout_input("From Plan Scene Layout, or a layout as text."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="The prompt for the whole image. If it is empty, the names of the objects are listed.",
                ),
                *size_inputs(1024, MAX_SIZE_PX, "Width of the image in pixels.", "Height of the image in pixels."),
                io.Boolean.Input(
                    "camera_words",
                    default=True,
                    tooltip='Whether words for the camera, such as "low angle, 35 mm lens", are added to the prompt.',
                ),
                io.Float.Input(
                    "object_strength",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    tooltip="How much an object's words count where it is seen; the whole prompt counts 1. 0 leaves "
                    "them out.",
                ),
                io.String.Input(
                    "object_prompt",
                    default=NAME,
                    optional=True,
                    advanced=True,
                    tooltip="The words of an object. The word name in braces is its name. Add a style to it, such as: "
                    "oil painting.",
                ),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="A batch of masks, one for each object in the layout's order, instead of the layout's own.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="conditioning", tooltip="For the sampler's positive input."),
                io.String.Output(display_name="prompt", tooltip="The prompt for the whole image, as it was encoded."),
                io.Mask.Output(display_name="masks", tooltip="A batch: where each object is seen, in their order."),
                io.String.Output(display_name="names", tooltip="The objects' names in the order of masks, one a line."),
            ],
        )

    @classmethod
    def execute(
        cls,
        clip: comfy.sd.CLIP,
        layout: Layout | NoLayout | str,
        prompt: str,
        width: int,
        height: int,
        camera_words: bool,
        object_strength: float,
        object_prompt: str = NAME,
        masks: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        scene = read_given(layout).layout
        names = unique_names(scene)
        check_masks(len(names), width, height)
        mattes = _masks(scene, width, height) if masks is None else _given(masks, len(names))
        whole = _whole_prompt(scene, prompt, camera_words)
        conditioning = _encode(clip, whole)
        for thing, matte in zip(scene.objects, mattes):
            comfy.model_management.throw_exception_if_processing_interrupted()
            if object_strength > 0 and matte.any():
                words = object_prompt.replace(NAME, thing.name)
                values = {"mask": matte.unsqueeze(0), "set_area_to_bounds": False, "mask_strength": object_strength}
                conditioning += node_helpers.conditioning_set_values(_encode(clip, words), values)
        return io.NodeOutput(conditioning, whole, to_host(mattes), "\n".join(names))


def _encode(clip: comfy.sd.CLIP, text: str) -> list:
    return list(clip.encode_from_tokens_scheduled(clip.tokenize(text)))


def _whole_prompt(scene: Layout, prompt: str, with_camera: bool) -> str:
    words = prompt.strip() or ", ".join(thing.name for thing in scene.objects)
    return ", ".join(part for part in (words, camera_words(scene.camera) if with_camera else "") if part)


def _masks(scene: Layout, width: int, height: int) -> torch.Tensor:
    """(N, H, W) float32, one empty mask for no object."""
    drawn = compose_layout(scene, width, height)
    return torch.stack([drawn.matte(index) for index in range(max(1, len(scene.objects)))])


def _given(masks: torch.Tensor, count: int) -> torch.Tensor:
    masks = masks if masks.ndim == 3 else masks.reshape(-1, *masks.shape[-2:])
    if len(masks) != count:
        raise ValueError(
            f"connect one mask for each object of the layout, in its order: there are {len(masks)} masks for {count} "
            "objects"
        )
    return masks.float()

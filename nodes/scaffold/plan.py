"""Plan Scene Layout: prompt -> layout, written by the language model of a CLIP, or by any other one as text."""

from __future__ import annotations

import comfy.model_management
import comfy.sd
import torch
from comfy_api.v0_0_2 import io

from ...sf_model.scaffold.layout_reading import read_layout
from ...sf_model.scaffold.planning import ATTEMPTS, MAX_TOKENS, Plan, correct_layout, plan_layout
from ..host.notices import warn
from ..inputs import BUILD_CATEGORY, ScaffoldLayout, aliases, seed_input, size_inputs
from ..runtime.text_generation import check_can_generate, generate_text, own_request, sees_images

MAX_SIZE_PX = 16384


class SpatialFusionPlanLayout(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpatialFusionPlanLayout",
            display_name="Plan Scene Layout",
            category=BUILD_CATEGORY,
            description=(
                "Turns a prompt into a scene in metres: a camera, and things with names, shapes, sizes, places and "
                "headings. The language model of your text encoder writes it, and distances, sizes and relations that "
                "the prompt states are then made true."
            ),
            search_aliases=aliases(
                "layout",
                "scene planner",
                "llm",
                "text to layout",
                "arrange objects",
                "place object",
                "prompt to 3d",
                "blockout",
                "3d scene",
            ),
            inputs=[
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip='What the picture shows and where things stand: "a dog 2 m away, left of a red car".',
                ),
                seed_input("Another seed lets the language model write another layout."),
                *size_inputs(
                    1024,
                    MAX_SIZE_PX,
                    "Width of the image in pixels. Only its ratio to the height matters.",
                    "Height of the image in pixels. Only its ratio to the width matters.",
                ),
                io.String.Input(
                    "camera",
                    default="",
                    optional=True,
                    tooltip='Wishes for the camera, in words: "low angle, 35 mm lens" or "2 m high, 10 degrees down".',
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="A text encoder that can write: that of Z-Image, FLUX.2 klein, LTX-2 or Lumina 2.",
                ),
                io.String.Input(
                    "text",
                    optional=True,
                    force_input=True,
                    tooltip="A layout that any other language model wrote. It takes the place of clip.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="A picture whose things are to be placed. The text encoder has to see pictures, as Gemma 3 "
                    "and Qwen3-VL do.",
                ),
                io.Int.Input(
                    "attempts",
                    default=ATTEMPTS,
                    min=1,
                    max=10,
                    optional=True,
                    advanced=True,
                    tooltip="How often the language model is asked before this node gives up.",
                ),
                io.Int.Input(
                    "max_tokens",
                    default=MAX_TOKENS,
                    min=64,
                    max=16384,
                    optional=True,
                    advanced=True,
                    tooltip="The longest answer in tokens. A thing takes about 60.",
                ),
                io.String.Input(
                    "instructions",
                    default="",
                    multiline=True,
                    optional=True,
                    advanced=True,
                    tooltip="What the language model is told, instead of the pack's own instructions. docs/layouts.md "
                    "says what it can contain.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                ScaffoldLayout.Output(
                    display_name="layout", tooltip="For Compose Depth Scaffold and Layout Conditioning."
                ),
                io.String.Output(display_name="text", tooltip="The layout as text, to read, edit or keep."),
                io.String.Output(
                    display_name="notes",
                    tooltip="What was assumed or changed, and what was not possible, line by line.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        prompt: str,
        seed: int,
        width: int,
        height: int,
        camera: str = "",
        clip: comfy.sd.CLIP | None = None,
        text: str | None = None,
        image: torch.Tensor | None = None,
        attempts: int = ATTEMPTS,
        max_tokens: int = MAX_TOKENS,
        instructions: str = "",
    ) -> io.NodeOutput:
        if (clip is None) == (text is None):
            problem = "nothing" if clip is None else "both"
            raise ValueError(f"connect a text encoder to clip, or a layout as text: {problem} is connected")
        if text is not None:
            layout, notes = correct_layout(read_layout(text), prompt, camera, width / height)
            plan = Plan(layout, notes, (text,))
        else:
            plan = _asked(clip, prompt, seed, camera, width / height, image, attempts, max_tokens, instructions)
        notes = "\n".join(plan.notes)
        return io.NodeOutput(plan.layout, plan.layout.to_json(), notes, ui=warn(cls, notes or None))


def _asked(
    clip: comfy.sd.CLIP,
    prompt: str,
    seed: int,
    camera: str,
    aspect: float,
    image: torch.Tensor | None,
    attempts: int,
    max_tokens: int,
    instructions: str,
) -> Plan:
    check_can_generate(clip)
    if image is not None and not sees_images(clip):
        raise ValueError(
            "disconnect image, or connect a text encoder that sees pictures (Gemma 3, Qwen3-VL): this one sees none"
        )
    picture = None if image is None else image[:1, ..., :3]

    def write(request: str, attempt: int) -> str:
        comfy.model_management.throw_exception_if_processing_interrupted()
        return generate_text(clip, request, seed + attempt, max_tokens, picture)

    return plan_layout(prompt, write, camera, aspect, attempts, instructions or own_request(clip) or "")

"""Depth Guider: separate guidance for text and depth, for SamplerCustomAdvanced and its like."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher
from comfy_api.v0_0_2 import io

from ..inputs import GENERATE_CATEGORY, aliases
from ..runtime.guidance import depth_guider


def cfg_input() -> io.Float.Input:
    return io.Float.Input(
        "cfg",
        default=4.0,
        min=0.0,
        max=100.0,
        step=0.1,
        round=0.01,
        tooltip="How strongly the image follows the text.",
    )


def depth_guidance_input() -> io.Float.Input:
    return io.Float.Input(
        "depth_guidance",
        default=1.0,
        min=0.0,
        max=100.0,
        step=0.1,
        round=0.01,
        tooltip=(
            "How strongly the image follows the depth: 1 is as trained, more exaggerates it. Values other "
            "than 1 and that of cfg need a third pass in each step."
        ),
    )


def condition_inputs() -> list[io.Input]:
    """positive and negative."""
    return [
        io.Conditioning.Input(
            "positive", tooltip="What the image shows, or what an edit changes. From Predict Metric Depth."
        ),
        io.Conditioning.Input(
            "negative",
            tooltip=(
                "What the image does not show. In an edit it must hold the source as reference latent too (Set "
                "Reference Latent). Then guidance strengthens the instruction and nothing else."
            ),
        ),
    ]


class SpatialFusionGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpatialFusionGuider",
            display_name="Depth Guider",
            category=GENERATE_CATEGORY,
            description=(
                "CFGGuider with separate guidance scales for the text and for the depth of Depth Adapter Apply, for "
                "SamplerCustomAdvanced. A depth guidance of 1 is exactly CFGGuider."
            ),
            search_aliases=aliases("guider", "cfg guider", "depth guidance", "custom sampler", "guidance"),
            inputs=[
                io.Model.Input("model", tooltip="From Depth Adapter Apply."),
                *condition_inputs(),
                cfg_input(),
                depth_guidance_input(),
            ],
            outputs=[io.Guider.Output(display_name="guider", tooltip="For SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(
        cls,
        model: comfy.model_patcher.ModelPatcher,
        positive: list[Any],
        negative: list[Any],
        cfg: float,
        depth_guidance: float,
    ) -> io.NodeOutput:
        return io.NodeOutput(depth_guider(model, positive, negative, cfg, depth_guidance))

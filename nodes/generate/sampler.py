"""SpatialFusion Sampler: KSampler with a second guidance scale, for the depth."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
from comfy_api.v0_0_2 import io

from ..inputs import CATEGORY, aliases, seed_input, share_input
from ..runtime.guidance import DepthGuider


class SpatialFusionSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpatialFusionSampler",
            display_name="SpatialFusion Sampler",
            category=CATEGORY,
            description=(
                "KSampler with separate guidance scales for the text and for the depth of Depth Adapter Apply. A depth "
                "guidance of 1 is exactly KSampler."
            ),
            search_aliases=aliases("ksampler", "sampler", "sample", "generate", "depth guidance", "cfg"),
            inputs=[
                io.Model.Input("model", tooltip="From Depth Adapter Apply."),
                seed_input("The random seed of the noise."),
                io.Int.Input("steps", default=20, min=1, max=10000, tooltip="The number of denoising steps."),
                io.Float.Input(
                    "cfg",
                    default=4.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="How strongly the image follows the text.",
                ),
                io.Combo.Input(
                    "sampler_name",
                    options=comfy.samplers.KSampler.SAMPLERS,
                    default="euler",
                    tooltip="The sampling algorithm.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=comfy.samplers.KSampler.SCHEDULERS,
                    default="simple",
                    tooltip="How the noise is spread over the steps.",
                ),
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
                io.Latent.Input("latent_image", tooltip="The latent to denoise."),
                share_input("denoise", "How much of the latent is drawn again. Lower keeps more of it.", default=1.0),
                io.Float.Input(
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
                ),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="The denoised latent.")],
        )

    @classmethod
    def execute(
        cls,
        model: comfy.model_patcher.ModelPatcher,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        positive: list[Any],
        negative: list[Any],
        latent_image: dict[str, Any],
        denoise: float,
        depth_guidance: float,
    ) -> io.NodeOutput:
        guider = DepthGuider(model, depth_guidance)
        guider.set_conds(positive, negative)
        guider.set_cfg(cfg)
        latent = comfy.sample.fix_empty_latent_channels(
            model, latent_image["samples"], latent_image.get("downscale_ratio_spacial")
        )
        settings = comfy.samplers.KSampler(
            model, steps, model.load_device, sampler_name, scheduler, denoise, model.model_options
        )
        samples = guider.sample(
            comfy.sample.prepare_noise(latent, seed, latent_image.get("batch_index")),
            latent,
            comfy.samplers.sampler_object(settings.sampler),
            settings.sigmas,
            denoise_mask=latent_image.get("noise_mask"),
            callback=latent_preview.prepare_callback(model, steps),
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=seed,
        )
        output = {name: value for name, value in latent_image.items() if not name.startswith("downscale_ratio")}
        output["samples"] = samples.to(
            device=comfy.model_management.intermediate_device(), dtype=comfy.model_management.intermediate_dtype()
        )
        return io.NodeOutput(output)

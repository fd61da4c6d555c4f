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

from ..inputs import GENERATE_CATEGORY, aliases, seed_input, share_input
from ..runtime.guidance import depth_guider
from .guider import cfg_input, condition_inputs, depth_guidance_input


class SpatialFusionSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpatialFusionSampler",
            display_name="SpatialFusion Sampler",
            category=GENERATE_CATEGORY,
            description=(
                "KSampler with separate guidance scales for the text and for the depth of Depth Adapter Apply. A depth "
                "guidance of 1 is exactly KSampler."
            ),
            search_aliases=aliases("ksampler", "sampler", "sample", "generate", "depth guidance", "cfg"),
            inputs=[
                io.Model.Input("model", tooltip="From Depth Adapter Apply."),
                seed_input("The random seed of the noise."),
                io.Int.Input("steps", default=20, min=1, max=10000, tooltip="The number of denoising steps."),
                cfg_input(),
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
                *condition_inputs(),
                io.Latent.Input("latent_image", tooltip="The latent to denoise."),
                share_input("denoise", "How much of the latent is drawn again. Lower keeps more of it.", default=1.0),
                depth_guidance_input(),
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
        guider = depth_guider(model, positive, negative, cfg, depth_guidance)
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

"""Separate guidance for text and for depth, on top of the host's classifier-free guidance."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher
import comfy.samplers
import torch

from .injection import depth_in_use
from .injection_run import WITHOUT_DEPTH_KEY
from .run_inputs import prepare_run

NEGATIVE = 1
NEGATIVE_WITHOUT_DEPTH = 2
# What other nodes put on a MODEL to take part in guidance. They see both predictions of a step, or the guided one.
GUIDANCE_PATCHES = ("sampler_cfg_function", "sampler_pre_cfg_function", "sampler_post_cfg_function")


def depth_guider(
    model: comfy.model_patcher.ModelPatcher, positive: Any, negative: Any, cfg: float, depth_guidance: float
) -> DepthGuider:
    """A GUIDER of the host for these conditions and scales."""
    guider = DepthGuider(model, depth_guidance)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider


class DepthGuider(comfy.samplers.CFGGuider):
    """v = v(0, 0) + depth_guidance * (v(0, D) - v(0, 0)) + cfg * (v(c, D) - v(0, D)).

    v(c, D) is the prediction for the positive prompt with depth, v(0, D) for the negative prompt with depth, v(0, 0)
    for the negative prompt without depth. The formula is linear, so that it holds for the host's denoised predictions
    and for velocities. A third pass runs only where the formula needs it. With depth_guidance 1, or without a depth in
    use, this is plain guidance. Equal scales need no v(0, D), and cfg 0 needs no v(c, D).

    Other nodes may have put guidance of their own on the MODEL. Their cfg function computes the text's part. Their
    post-CFG functions get the sum of both parts, as they get the result of any guidance. They are given v(c, D) and
    v(0, D), so that no pass is left out for them.
    """

    def __init__(self, model: comfy.model_patcher.ModelPatcher, depth_guidance: float) -> None:
        super().__init__(model)
        self.depth_guidance = depth_guidance

    def outer_sample(
        self,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        sampler: comfy.samplers.Sampler,
        sigmas: torch.Tensor,
        *arguments: Any,
        **options: Any,
    ) -> torch.Tensor:
        prepare_run(self, sigmas)
        return super().outer_sample(noise, latent_image, sampler, sigmas, *arguments, **options)

    def predict_noise(
        self, x: torch.Tensor, timestep: torch.Tensor, model_options: dict[str, Any], seed: int | None = None
    ) -> torch.Tensor:
        if self.depth_guidance == 1 or not depth_in_use(model_options, float(timestep[0])):
            return super().predict_noise(x, timestep, model_options, seed)
        is_alone = not any(model_options.get(name) for name in GUIDANCE_PATCHES)
        if is_alone and self.depth_guidance == self.cfg:
            # v(0, D) cancels out: plain guidance with the negative prompt without depth.
            return super().predict_noise(x, timestep, _without_depth(model_options, NEGATIVE), seed)
        if is_alone and self.cfg == 0:
            # v(c, D) has no weight: guidance from the negative prompt without depth to the one with depth.
            negative = self.conds["negative"]
            options = _without_depth(model_options, NEGATIVE)
            return comfy.samplers.sampling_function(
                self.inner_model, x, timestep, negative, negative, self.depth_guidance, options, seed
            )
        recorder = _ThirdPass(self.conds["negative"], model_options)

        def add_depth_guidance(arguments: dict[str, Any]) -> torch.Tensor:
            return arguments["denoised"] + (1 - self.depth_guidance) * (recorder.without_depth - recorder.with_depth)

        options = {
            **model_options,
            "sampler_calc_cond_batch_function": recorder,
            # Before those of other nodes: what these do, such as a limit of the values, holds for the result.
            "sampler_post_cfg_function": [add_depth_guidance, *model_options.get("sampler_post_cfg_function", [])],
            # Without this the host leaves out v(0, D) at cfg 1.
            "disable_cfg1_optimization": True,
        }
        return super().predict_noise(x, timestep, options, seed)


class _ThirdPass:
    """Runs the host's two conditions and, in the same batch, the negative prompt without depth.

    It keeps the results of the negative prompt, with and without depth.
    """

    def __init__(self, negative: Any, model_options: dict[str, Any]) -> None:
        self._negative = negative
        self._other = model_options.get("sampler_calc_cond_batch_function")
        self.with_depth: torch.Tensor
        self.without_depth: torch.Tensor

    def __call__(self, arguments: dict[str, Any]) -> list[torch.Tensor]:
        model, x, sigma = arguments["model"], arguments["input"], arguments["sigma"]
        conds, options = arguments["conds"], arguments["model_options"]
        third_options = _without_depth(options, NEGATIVE_WITHOUT_DEPTH)
        if self._other is None:
            *out, third = comfy.samplers.calc_cond_batch(model, [*conds, self._negative], x, sigma, third_options)
        else:
            # Another extension computes the two conditions. It does not know of a third one.
            out = self._other(arguments)
            third = comfy.samplers.calc_cond_batch(model, [None, None, self._negative], x, sigma, third_options)[-1]
        self.with_depth, self.without_depth = out[NEGATIVE], third
        return out


def _without_depth(model_options: dict[str, Any], condition: int) -> dict[str, Any]:
    """A copy of the options in which the numbered condition gets no depth."""
    transformer_options = {**model_options["transformer_options"], WITHOUT_DEPTH_KEY: (condition,)}
    return {**model_options, "transformer_options": transformer_options}

"""Adds F, the depth adapter's residual, to a diffusion model while it samples.

Everything hangs on a clone of MODEL: three wrappers, the adapter's patcher and, for injection "token", an object patch.
F does not depend on the timestep. It is computed at the first call of the model in a run, because the host has loaded
the adapter by then. Several injections on one MODEL add up.

The host shares the objects on a MODEL between all runs, and between the threads of a run. So an injection never
changes. What belongs to a run is an `InjectionRun` in that run's own transformer_options: the host copies the options
of the MODEL when a run begins and passes the copy to every step and every call of the model.

The host's nodes for several GPUs copy a MODEL, with the adapter on it, to another device. So a run takes the adapter
from the patcher that runs, and never the one that Depth Adapter Apply had.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.model_patcher
import torch
from comfy.patcher_extension import WrappersMP

from ...sf_model.backbones import Backbone
from .crops import part_of_run
from .depth_control import DepthControl, check_latent
from .injection_place import LatentPlace, TokenEmbedder, TokenPlace
from .injection_run import InjectionRun
from .run_inputs import prepare_run

KEY = "spatialfusion"
# In the transformer_options of a run: its InjectionRun for every injection.
RUNS_KEY = "spatialfusion_runs"


def inject(
    model: comfy.model_patcher.ModelPatcher,
    adapter: comfy.model_patcher.ModelPatcher,
    control: DepthControl,
    backbone: Backbone,
) -> comfy.model_patcher.ModelPatcher:
    """A clone of `model` that samples with the depth. `model` and the names of its weights are not changed.

    backbone: the base of both `model` and `adapter`.
    """
    patched = model.clone()
    place: LatentPlace | TokenPlace = LatentPlace()
    if adapter.model.config.injection == "token":
        path = f"diffusion_model.{backbone.patch_embedder}.forward"
        embedder = TokenEmbedder(patched.get_model_object(path))
        patched.add_object_patch(path, embedder)
        place = TokenPlace(backbone, model.get_model_object("diffusion_model").patch_size, embedder)
    injection = DepthInjection(adapter, control, place)
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, injection.outer_sample)
    patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, injection.calc_cond_batch)
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, injection.apply_model)
    others = patched.get_additional_models_with_key(KEY)
    if not any(adapter.is_clone(other) for other in others):
        patched.set_additional_models(KEY, [*others, adapter])
    return patched


def depth_in_use(model_options: dict[str, Any], sigma: float) -> bool:
    """Whether any injection of the run with these options uses its depth at this noise level."""
    runs = model_options["transformer_options"].get(RUNS_KEY, {})
    return any(run.active(sigma) for run in runs.values())


@dataclass(frozen=True, eq=False)
class DepthInjection:
    """One Depth Adapter Apply: the wrappers that it puts on a MODEL."""

    adapter: comfy.model_patcher.ModelPatcher
    control: DepthControl
    place: LatentPlace | TokenPlace

    def __deepcopy__(self, memo: dict[int, Any]) -> DepthInjection:
        """Extensions copy a run's options as a whole. The copy must find the same run under the same injection."""
        return self

    def outer_sample(
        self,
        executor: Any,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        sampler: Any,
        sigmas: torch.Tensor,
        *arguments: Any,
        **options: Any,
    ) -> torch.Tensor:
        """Wraps a whole run: checks what it is given, and keeps an InjectionRun in its options until it ends."""
        guider = executor.class_obj
        prepare_run(guider, sigmas)
        transformer_options = guider.model_options["transformer_options"]
        part = part_of_run(transformer_options, self.control.part)
        check_latent(noise.shape, self.control, part)
        schedule = guider.model_patcher.get_model_object("model_sampling")
        adapter = _adapter_on(guider.model_patcher, self.adapter)
        run = InjectionRun(adapter, self.control, self.place.grid, schedule.percent_to_sigma, noise.shape, part)
        others = transformer_options.get(RUNS_KEY, {})
        # Another dict, not a changed one: options that were copied before share the old one.
        transformer_options[RUNS_KEY] = {**others, self: run}
        try:
            return executor(noise, latent_image, sampler, sigmas, *arguments, **options)
        finally:
            transformer_options[RUNS_KEY] = others

    def calc_cond_batch(
        self, executor: Any, model: Any, conds: list[Any], x: torch.Tensor, timestep: Any, model_options: dict[str, Any]
    ) -> list[torch.Tensor]:
        """Wraps the conditions of one step."""
        run = self._run(model_options["transformer_options"])
        conditions = (condition for group in conds for condition in group or ())
        run.begin_step(float(timestep[0]), conditions, x.shape[-2:])
        return executor(model, conds, x, timestep, model_options)

    def apply_model(
        self,
        executor: Any,
        x: torch.Tensor,
        t: torch.Tensor,
        c_concat: Any,
        c_crossattn: Any,
        control: Any,
        transformer_options: dict[str, Any],
        **conditions: Any,
    ) -> torch.Tensor:
        """Wraps one call of the diffusion model, on the conditions that the host has batched together."""

        def call_model(x: torch.Tensor) -> torch.Tensor:
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, **conditions)

        features = self._run(transformer_options).features_for(float(t[0]), x, transformer_options)
        references = len(conditions.get("ref_latents") or ())
        return self.place.add(call_model, executor.class_obj.diffusion_model, x, features, references)

    def _run(self, transformer_options: dict[str, Any]) -> InjectionRun:
        run = transformer_options.get(RUNS_KEY, {}).get(self)
        if run is None:
            raise ValueError(
                "sample with KSampler, SamplerCustom or SpatialFusion Sampler: the sampler behind Depth Adapter Apply "
                "calls the model without the options of a sampling run, so that the depth does not reach it"
            )
        return run


def _adapter_on(
    model: comfy.model_patcher.ModelPatcher, adapter: comfy.model_patcher.ModelPatcher
) -> comfy.model_patcher.ModelPatcher:
    """The copy of `adapter` that goes with `model`, and that the host has loaded for it: on the same device."""
    for other in model.get_additional_models_with_key(KEY):
        if adapter.is_clone(other) or _is_copy(adapter, other):
            return other
    return adapter


def _is_copy(first: comfy.model_patcher.ModelPatcher, second: comfy.model_patcher.ModelPatcher) -> bool:
    """Whether both are of one origin, each with its own weights. The oldest host makes no such copies."""
    origin = getattr(first, "clone_base_uuid", None)
    return origin is not None and origin == getattr(second, "clone_base_uuid", None)

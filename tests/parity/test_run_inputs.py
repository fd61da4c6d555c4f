"""Noise levels and encoded prompts that a sampling run cannot use, through all three nodes that see them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import comfy.samplers
import comfy_extras.nodes_custom_sampler as custom_sampler
import pytest
import torch

from tests.parity.test_injection_runs import SMALL, Setting
from tests.parity.test_input_checks import SAMPLE

NODES = ("Depth Guider", "Depth Adapter Apply")


@pytest.fixture(scope="module")
def setting(nodes: ModuleType, tiny_bases: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return Setting("omnigen2", "latent", nodes, tiny_bases, tmp_path_factory.mktemp("tiny"))


@torch.no_grad()
def run(node: str, setting: Setting, sigmas: torch.Tensor, sampler: str, **conditions: Any) -> torch.Tensor:
    """Sample through a node: by the host's sampler where the depth is on the MODEL alone."""
    noise = setting.noise(SMALL, 1)
    prompts = {"positive": setting.positive, "negative": setting.negative} | conditions
    method, latent = comfy.samplers.sampler_object(sampler), torch.zeros_like(noise)
    if node == "Depth Adapter Apply":
        guider = custom_sampler.CFGGuider.execute(setting.model, **prompts, cfg=3.0).args[0]
    else:
        # The Sampler's own guider, with the levels of any scheduler.
        guider = setting.nodes.runtime.guidance.depth_guider(setting.model, **prompts, cfg=3.0, depth_guidance=1.0)
    return guider.sample(noise, latent, method, sigmas, disable_pbar=True, seed=0)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_sde"])
@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize(
    "sigmas, message",
    [
        ([torch.nan, 0.0], "set steps to 2 or more, or choose another scheduler: .*(nan, 0).*kl_optimal"),
        ([1.0, torch.inf, 0.0], "set steps to 2 or more, or choose another scheduler: .*(1, inf, 0)"),
        ([0.0, 0.0], "connect SIGMAS that begin above 0, .*Basic Scheduler.*(0, 0)"),
        ([-1.0, -0.5, 0.0], "connect SIGMAS that begin above 0"),
    ],
)
def test_noise_levels_that_no_sampler_can_use_are_refused(
    setting: Setting, node: str, sampler: str, sigmas: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(node, setting, torch.tensor(sigmas), sampler)


@pytest.mark.parametrize("sigmas", [[], [0.9], [0.0], [0.5, 0.0], [0.0001, 0.5, 0.9]])
def test_other_noise_levels_are_taken(setting: Setting, sigmas: list[float]) -> None:
    """No step at all, one step, and back to noise."""
    for node in NODES:
        assert run(node, setting, torch.tensor(sigmas), "euler").isfinite().all()


@pytest.mark.parametrize("sampler", ["dpmpp_sde", "euler"])
def test_one_step_of_a_scheduler_that_needs_two(setting: Setting, sampler: str) -> None:
    """The host's kl_optimal gives [nan, 0] there: SDE samplers end in its `min(): ... numel() == 0`."""
    execute = setting.nodes.SpatialFusionSampler.execute
    given = SAMPLE | {"sampler_name": sampler, "scheduler": "kl_optimal"}
    latent = {"samples": torch.zeros(1, 16, *SMALL[1:])}
    prompts = {"positive": setting.positive, "negative": setting.negative}
    with pytest.raises(ValueError, match="set steps to 2 or more"):
        execute(model=setting.model, latent_image=latent, **prompts, **given)
    assert (
        execute(model=setting.model, latent_image=latent, **prompts, **(given | {"steps": 2})).args[0]["samples"].any()
    )


def without_mask(conditioning: list[Any]) -> list[Any]:
    return [
        [tokens, {name: value for name, value in options.items() if name != "attention_mask"}]
        for tokens, options in conditioning
    ]


@pytest.mark.parametrize("node", NODES)
def test_a_text_encoder_without_attention_masks_leaves_no_token_out(setting: Setting, node: str) -> None:
    """Nothing is padded in these prompts, so that the mask says nothing. The host's OmniGen2 refuses to run without."""
    prompts = {"positive": setting.positive, "negative": setting.negative}
    assert all(options["attention_mask"].all() for prompt in prompts.values() for _, options in prompt)
    stripped = {name: without_mask(prompt) for name, prompt in prompts.items()}
    sigmas = torch.linspace(1, 0, 4)
    expected = run(node, setting, sigmas, "euler")
    assert torch.equal(run(node, setting, sigmas, "euler", **stripped), expected)
    assert not any("attention_mask" in options for prompt in stripped.values() for _, options in prompt)
    with_words = run(node, setting, sigmas, "euler", positive=setting.negative)
    assert not torch.equal(with_words, expected)  # the prompt has an effect


@pytest.mark.parametrize("node", NODES)
def test_prompts_without_tokens_are_refused_where_the_base_needs_them(setting: Setting, node: str) -> None:
    with pytest.raises(ValueError, match="connect an encoded prompt to positive and negative.*no tokens"):
        run(node, setting, torch.linspace(1, 0, 3), "euler", positive=[[None, {}]])

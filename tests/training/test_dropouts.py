"""Dropped captions and depths: what the diffusion model then sees, on a tiny OmniGen2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sf_model.training.bases.settings import RunSettings
from sf_model.training.bases.stages import FusionStage, draw, draw_depth

from sf_model.models.depth_flow import DEPTH_SEED
from sf_model.training.bases.base import Prompt
from sf_model.training.flow import interpolate
from tests.training import tiny_bases, tiny_data

SEEDS = torch.tensor([1, 2])


def settings(**changes: Any) -> RunSettings:
    return RunSettings(**{**tiny_data.RUN, "depth_flow": 0.0, **changes})


def seen_by_the_model(tmp_path: Path, **changes: Any) -> tuple[FusionStage, dict[str, torch.Tensor], dict[str, Any]]:
    """A stage and its batch, and the arguments of the one call of the diffusion model in a step."""
    base = tiny_bases.load_base("omnigen2", tiny_bases.write_weights("omnigen2", tmp_path), torch.float32)
    stage = FusionStage(base, tiny_bases.spatial_config("omnigen2", source=False), settings(**changes))
    torch.nn.init.normal_(stage.adapter.out.weight, std=0.3)
    ids, mask = base.tokens.batch(["a red car", "a blue house far away"], False)
    empty_ids, empty_mask = base.tokens.batch(["", ""], False)
    batch = {"input_ids": ids, "prompt_mask": mask, "empty_ids": empty_ids, "empty_mask": empty_mask}
    batch |= {"noise_seed": SEEDS, "latent": torch.randn(2, 16, 8, 8, generator=torch.manual_seed(0))}
    batch |= {"depth_m": torch.full((2, 64, 64), 3.0), "fov_y_deg": torch.tensor([50.0, 50.0])}
    calls: list[dict[str, Any]] = []
    velocity = base.velocity

    def record(latent: torch.Tensor, time: torch.Tensor, prompt: Prompt, reference: torch.Tensor | None) -> Any:
        calls.append({"latent": latent, "time": time, "prompt": prompt})
        return velocity(latent, time, prompt, reference)

    base.velocity = record  # type: ignore[method-assign]
    stage(batch)
    (call,) = calls
    return stage, batch, call


@pytest.mark.parametrize("dropped", [0.0, 1.0])
def test_a_dropped_caption_leaves_the_empty_prompt_s_states_and_the_depth(dropped: float, tmp_path: Path) -> None:
    stage, batch, call = seen_by_the_model(tmp_path, caption_dropout=dropped, depth_dropout=0.0)
    with torch.no_grad():
        prompt = stage.empty_prompt(batch) if dropped else stage.prompt(batch)
        features = stage.features(stage.predict(batch, stage.prompt(batch)).to_metric_depth(), 8, 8)
    length = prompt.hidden.shape[1]
    torch.testing.assert_close(call["prompt"].hidden[:, :length], prompt.hidden)
    assert torch.equal(call["prompt"].hidden_mask.sum(1), prompt.hidden_mask.sum(1))
    # The depth is still that of the caption.
    drawn = draw(SEEDS, batch["latent"], stage.run)
    expected = interpolate(batch["latent"], drawn.noise, drawn.time) + features
    torch.testing.assert_close(call["latent"], expected, rtol=1e-4, atol=1e-4)


def test_a_dropped_depth_adds_nothing(tmp_path: Path) -> None:
    stage, batch, call = seen_by_the_model(tmp_path, caption_dropout=0.0, depth_dropout=1.0)
    drawn = draw(SEEDS, batch["latent"], stage.run)
    assert torch.equal(call["latent"], interpolate(batch["latent"], drawn.noise, drawn.time))


def test_rates_and_draws_by_seed() -> None:
    """Shares of many samples; every sample's draws are its own seed's, and those of its depth are others."""
    run = settings(caption_dropout=0.3, depth_dropout=0.2, depth_flow=0.6)
    seeds, latent = torch.arange(4000), torch.zeros(4000, 2, 2, 2)
    drawn, depth = draw(seeds, latent, run), draw_depth(seeds, (4000, 2, 2, 2), run)
    assert drawn.no_caption.float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert drawn.no_depth.float().mean().item() == pytest.approx(0.2, abs=0.03)
    assert depth.known.float().mean().item() == pytest.approx(0.6, abs=0.03)
    # Only a depth that is told is guided, so that only then its prompt is dropped.
    assert depth.no_prompt.float().mean().item() == pytest.approx(0.6 * 0.3, abs=0.03)
    assert not (depth.no_prompt & ~depth.known).any()
    assert torch.logit(drawn.time).mean().item() == pytest.approx(run.time_mean, abs=0.05)
    assert torch.logit(depth.time).mean().item() == pytest.approx(run.depth_time_mean, abs=0.05)
    assert torch.logit(depth.time).std().item() == pytest.approx(run.depth_time_std, abs=0.05)
    alone = draw(seeds[7:8], latent[:1], run)
    assert torch.equal(alone.noise[0], drawn.noise[7]) and alone.time[0] == drawn.time[7]
    assert torch.equal(draw_depth(seeds[7:8] ^ DEPTH_SEED, (1, 2, 2, 2), run).noise[0], drawn.noise[7])
    assert not torch.equal(depth.noise[7], drawn.noise[7])

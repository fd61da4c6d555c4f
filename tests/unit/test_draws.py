"""What chance decides of a sample: shares of many, and each sample's own seed."""

from __future__ import annotations

import pytest
import torch

from sf_model.models.depth_flow import DEPTH_SEED
from sf_model.training.batch import repeated
from sf_model.training.draws import SCAFFOLD_SEED, draw_depth, draw_diffusion, draw_share
from sf_model.training.settings import DepthSettings, DiffusionSettings

COUNT = 4000
SEEDS = torch.arange(COUNT)
LATENT, STATE = torch.zeros(COUNT, 2, 2, 2), torch.zeros(COUNT, 2, 2, 2)
DIFFUSION = DiffusionSettings(
    time_mean=-1.8, time_std=1.5, caption_dropout=0.3, depth_dropout=0.2, joint_dropout=0.1, draws=1
)
DEPTH = DepthSettings(flow=0.6, time_mean=-0.8, time_std=1.2, prompt_dropout=0.3, layout_dropout=0.0, draws=1)


def test_shares_and_times() -> None:
    drawn, depth = draw_diffusion(SEEDS, LATENT, DIFFUSION), draw_depth(SEEDS, STATE, DEPTH)
    assert depth.has_noise.float().mean().item() == pytest.approx(0.6, abs=0.03)
    # Only a depth with a noisy one beside it is guided, so that only then its prompt is dropped.
    assert depth.no_prompt.float().mean().item() == pytest.approx(0.6 * 0.3, abs=0.03)
    assert not (depth.no_prompt & ~depth.has_noise).any()
    for times, mean, std in ((drawn.time, -1.8, 1.5), (depth.time, -0.8, 1.2)):
        assert torch.logit(times).mean().item() == pytest.approx(mean, abs=0.08)
        assert torch.logit(times).std().item() == pytest.approx(std, abs=0.08)
    # Phi((logit(0.1) + 1.8) / 1.5) of the times lie below 0.1.
    assert (drawn.time < 0.1).float().mean().item() == pytest.approx(0.3943, abs=0.03)


def test_caption_and_depth_are_dropped_together_for_a_share_of_their_own() -> None:
    """Beside what each loses alone: 0.1 + 0.9 x 0.3 x 0.2 lack both, 0.1 + 0.9 x 0.3 the caption."""
    drawn = draw_diffusion(SEEDS, LATENT, DIFFUSION)
    both = drawn.no_caption & drawn.no_depth
    assert both.float().mean().item() == pytest.approx(0.1 + 0.9 * 0.06, abs=0.02)
    assert drawn.no_caption.float().mean().item() == pytest.approx(0.1 + 0.9 * 0.3, abs=0.03)
    assert drawn.no_depth.float().mean().item() == pytest.approx(0.1 + 0.9 * 0.2, abs=0.03)
    alone = DiffusionSettings(0.0, 1.0, caption_dropout=0.0, depth_dropout=0.0, joint_dropout=0.25, draws=1)
    drawn = draw_diffusion(SEEDS, LATENT, alone)
    assert torch.equal(drawn.no_caption, drawn.no_depth)
    assert drawn.no_caption.float().mean().item() == pytest.approx(0.25, abs=0.03)


def test_a_sample_s_draws_are_its_own_seed_s() -> None:
    """Whatever stands beside it; noises of depth and image, and the scaffold's draw, are independent."""
    drawn, depth = draw_diffusion(SEEDS, LATENT, DIFFUSION), draw_depth(SEEDS, STATE, DEPTH)
    alone = draw_diffusion(SEEDS[7:8], LATENT[:1], DIFFUSION)
    assert torch.equal(alone.noise[0], drawn.noise[7]) and alone.time[0] == drawn.time[7]
    assert torch.equal(draw_depth(SEEDS[7:8] ^ DEPTH_SEED, STATE[:1], DEPTH).noise[0], drawn.noise[7])
    assert not torch.equal(depth.noise[7], drawn.noise[7])
    share = draw_share(SEEDS, 0.3, SCAFFOLD_SEED)
    assert share.float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert (share & drawn.no_caption).float().mean().item() == pytest.approx(0.3 * 0.37, abs=0.03)


def test_copies_of_a_sample_have_seeds_of_their_own() -> None:
    batch = {"noise_seed": torch.tensor([5, 6]), "fov_y_deg": torch.tensor([50.0, 60.0])}
    copies = repeated(batch, 3)
    assert copies["fov_y_deg"].tolist() == [50.0] * 3 + [60.0] * 3
    seeds = copies["noise_seed"].tolist()
    assert len(set(seeds)) == 6 and (seeds[0], seeds[3]) == (5, 6)

"""Dropped captions and depths: what the diffusion model then sees, on a tiny OmniGen2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sf_model.training.bases.base import DepthFeatures, Prompt
from sf_model.training.draws import draw_diffusion
from sf_model.training.flow import interpolate
from sf_model.training.stages.fusion import FusionStage
from sf_model.training.system import System
from tests.training import tiny_bases, tiny_data

SEEDS = torch.tensor([1, 2])


def seen_by_the_model(tmp_path: Path, **changes: Any) -> tuple[FusionStage, dict[str, torch.Tensor], dict[str, Any]]:
    """A stage and its batch, and the arguments of the one call of the diffusion model in a step."""
    base = tiny_bases.load_base("omnigen2", tiny_bases.write_weights("omnigen2", tmp_path), torch.float32)
    system = System(base, tiny_bases.spatial_config("omnigen2", source=False), seed=0)
    dropouts = {"caption_dropout": 0.0, "depth_dropout": 0.0, "joint_dropout": 0.0, **changes}
    settings = {f"diffusion__{name}": value for name, value in dropouts.items()}
    stage = FusionStage(system, tiny_data.stage_settings("stage2", depth__flow=0.0, **settings))
    torch.nn.init.normal_(system.adapter.out.weight, std=0.3)
    ids, mask = base.tokens.batch(["a red car", "a blue house far away"], False)
    empty_ids, empty_mask = base.tokens.batch(["", ""], False)
    batch = {"input_ids": ids, "prompt_mask": mask, "empty_ids": empty_ids, "empty_mask": empty_mask}
    batch |= {"noise_seed": SEEDS, "latent": torch.randn(2, 16, 8, 8, generator=torch.manual_seed(0))}
    batch |= {"depth_m": torch.full((2, 64, 64), 3.0), "fov_y_deg": torch.tensor([50.0, 50.0])}
    calls: list[dict[str, Any]] = []
    velocity = base.velocity

    def record(
        latent: torch.Tensor,
        time: torch.Tensor,
        prompt: Prompt,
        reference: torch.Tensor | None,
        features: DepthFeatures,
    ) -> Any:
        calls.append({"latent": latent + features.values, "time": time, "prompt": prompt})
        return velocity(latent, time, prompt, reference, features)

    base.velocity = record  # type: ignore[method-assign]
    stage(batch)
    (call,) = calls
    return stage, batch, call


@pytest.mark.parametrize("dropped", [0.0, 1.0])
def test_a_dropped_caption_leaves_the_empty_prompt_s_states_and_the_depth(dropped: float, tmp_path: Path) -> None:
    stage, batch, call = seen_by_the_model(tmp_path, caption_dropout=dropped)
    with torch.no_grad():
        prompt = stage.empty_prompt(batch) if dropped else stage.prompt(batch)
        depth = stage.predicted(batch, stage.inputs(batch, stage.prompt(batch)))[0].to_metric_depth()
        features = stage.system.features(depth, batch["latent"]).values
    length = prompt.hidden.shape[1]
    torch.testing.assert_close(call["prompt"].hidden[:, :length], prompt.hidden)
    assert torch.equal(call["prompt"].hidden_mask.sum(1), prompt.hidden_mask.sum(1))
    # The depth is still that of the caption.
    drawn = draw_diffusion(SEEDS, batch["latent"], stage.settings.diffusion)
    expected = interpolate(batch["latent"], drawn.noise, drawn.time) + features
    torch.testing.assert_close(call["latent"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("dropped", "reads"), [(0.0, 1), (1.0, 2)])
def test_the_empty_prompt_is_read_only_where_a_caption_is_dropped(dropped: float, reads: int, tmp_path: Path) -> None:
    """Beside a real base each reading is a pass of billions of parameters."""
    stage, batch, _ = seen_by_the_model(tmp_path, caption_dropout=dropped)
    seen: list[torch.Tensor] = []
    encode = stage.system.base.encode
    stage.system.base.encode = lambda ids, *rest: seen.append(ids) or encode(ids, *rest)  # type: ignore[method-assign]
    stage(batch)
    assert len(seen) == reads


@pytest.mark.parametrize("kind", ["depth", "joint"])
def test_a_dropped_depth_adds_nothing(kind: str, tmp_path: Path) -> None:
    stage, batch, call = seen_by_the_model(tmp_path, **{f"{kind}_dropout": 1.0})
    drawn = draw_diffusion(SEEDS, batch["latent"], stage.settings.diffusion)
    assert torch.equal(call["latent"], interpolate(batch["latent"], drawn.noise, drawn.time))
    with torch.no_grad():
        empty = stage.empty_prompt(batch).hidden
    shown = call["prompt"].hidden[:, : empty.shape[1]]
    assert torch.equal(shown, empty) == (kind == "joint")

"""The stages of a training: what learns, from what, and what stays as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sf_model.backbones.mini import TOKENIZER_DIR
from sf_model.evaluation.sampling import SystemSampler
from sf_model.models.depth_flow import depth_state
from sf_model.training.bases.base import Prompt
from sf_model.training.bases.mini import MiniBase
from sf_model.training.bases.prompts import PromptTokens
from sf_model.training.bases.qwen2 import build_decoder, prompt_keys_values
from sf_model.training.batch import Batch, repeated
from sf_model.training.data.numbered import Share
from sf_model.training.draws import SCAFFOLD_SEED, draw_share
from sf_model.training.export import export_mini
from sf_model.training.optimiser import trainable_parameters
from sf_model.training.stages import DepthStage, Stage
from sf_model.training.stages.fusion import FusionStage
from sf_model.training.stages.stage import LAYOUT, SEES_SOURCES
from sf_model.training.system import System
from tests.unit.mini_training import (
    CELL_PX,
    FREE,
    batches_of,
    build_stage,
    build_system,
    mini_settings,
    stage_settings,
    world_batches,
)

PREDICTOR, ADAPTER, TRANSFORMER = "system.predictor.", "system.adapter.", "system.base.transformer."


@pytest.fixture
def batch(tokens: PromptTokens) -> Batch:
    """Four captioned scenes."""
    return world_batches(tokens, FREE)[0][0]


def wake(stage: Stage) -> Stage:
    """What starts at zero is not zero any more, so that everything matters."""
    generator = torch.Generator().manual_seed(2)
    for parameter in stage.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    return stage


@pytest.mark.parametrize(
    ("name", "changes", "learns"),
    [
        ("autoencoder", {}, ("system.base.vae.",)),
        ("language", {}, ("system.base.text_encoder.", LAYOUT, "heads.")),
        ("image", {}, (TRANSFORMER,)),
        ("source", {}, SEES_SOURCES),
        ("stage1", {}, (PREDICTOR,)),
        ("stage1", {"depth__flow": 0.5}, (PREDICTOR,)),
        ("stage2", {}, (PREDICTOR, ADAPTER, TRANSFORMER)),
        ("stage2", {"depth__flow": 1.0}, (PREDICTOR, ADAPTER, TRANSFORMER)),
        ("stage2", {"fusion__freeze_predictor": True}, (ADAPTER, TRANSFORMER)),
        ("stage2", {"fusion__freeze_predictor": True, "fusion__true_depth": 1.0}, (ADAPTER, TRANSFORMER)),
    ],
)
def test_freeze_sets(
    name: str, changes: dict[str, Any], learns: tuple[str, ...], tokenizer_dir: Path, tokens: PromptTokens
) -> None:
    """After a step of captions and one of edits, exactly what should learn has a gradient."""
    stage = build_stage(name, tokenizer_dir, **changes)
    data = batches_of(name, tokens)
    steps = [data[0]]
    if name in ("language", "stage1", "stage2"):
        # The language stage's first steps have none.
        steps.append(batches_of(name, tokens, edits=1.0)[1000])
    for (batch,) in steps:
        stage(batch)["loss"].backward()
    has_gradient = {key for key, value in stage.named_parameters() if value.grad is not None}
    assert has_gradient == trainable_parameters(stage).keys()
    for key, _ in stage.named_parameters():
        # What reads sources waits for edits, what sees them for no stage but its own, and a flow for noisy depths.
        waits = name == "image" and ("ref_image_" in key or "image_index_embedding" in key)
        waits = waits or (name != "source" and key.startswith(SEES_SOURCES))
        waits = waits or (name != "language" and key.startswith(LAYOUT))
        waits = waits or ("depth__flow" not in changes and key.startswith("system.predictor.depth_flow."))
        assert (key in has_gradient) == (key.startswith(learns) and not waits), key


@pytest.mark.parametrize("micro_batch", [1, 2])
@pytest.mark.parametrize("name", ["image", "source", "stage1", "stage2"])
def test_any_split_of_a_step_gives_the_same_losses_and_gradients(
    name: str, micro_batch: int, tokenizer_dir: Path, tokens: PromptTokens
) -> None:
    """Captions of different lengths, dropouts, given depths and skies among them."""
    flow = {"depth__flow": 0.7} if name in ("stage1", "stage2") else {}
    outcomes = []
    for size in (4, micro_batch):
        stage = wake(build_stage(name, tokenizer_dir, **flow))
        parts = batches_of(name, tokens, Share(4, size))[1]
        totals: dict[str, float] = {}
        for part in parts:
            losses = stage(part)
            (losses["loss"] / len(parts)).backward()
            for key, value in losses.items():
                totals[key] = totals.get(key, 0.0) + value.item() / len(parts)
        learned = trainable_parameters(stage).values()
        gradient = torch.cat([value.grad.flatten() for value in learned if value.grad is not None])
        outcomes.append((totals, gradient))
    (whole, gradient), (split, other) = outcomes
    assert split == pytest.approx(whole, rel=1e-4)
    assert (other - gradient).norm() < 1e-3 * gradient.norm()


def test_confidence_learns_only_of_depths_that_are_not_given(tokenizer_dir: Path, batch: Batch) -> None:
    """A noisy depth shows the true one; for the mean there is the prompt alone."""
    rows = []
    for flow in (1.0, 0.0):
        stage = wake(build_stage("stage1", tokenizer_dir, depth__flow=flow))
        stage(batch)["loss"].backward()
        gradient = stage.system.predictor.depth_head.out_conv2.weight.grad
        assert gradient[0].abs().max() > 0
        rows.append(gradient[2].abs().max().item())
    assert rows[0] == 0 and rows[1] > 0


def test_a_configuration_without_a_flow_learns_none(tokenizer_dir: Path) -> None:
    system = build_system(tokenizer_dir)
    system.config = replace(system.config, depth_flow=None)
    DepthStage(system, stage_settings("stage1"))
    with pytest.raises(ValueError, match=r"set stage1.depth.flow to 0, or give configuration 'dummy' a depth_flow"):
        DepthStage(system, stage_settings("stage1", depth__flow=0.5))


def test_the_source_encoder_learns_depth_and_objects_from_pictures(tokenizer_dir: Path, tokens: PromptTokens) -> None:
    """It alone, and in a few steps more than the mean: of four pictures, the state within 0.2 of its variance, and
    what most objects are."""
    stage = build_stage("source", tokenizer_dir)
    parameters = trainable_parameters(stage)
    assert parameters and all(name.startswith(SEES_SOURCES) for name in parameters)
    batch = world_batches(tokens, FREE, cell_px=CELL_PX)[0][0]
    assert stage.eval()(batch).metrics["recognised"] < 0.2
    stage.train()
    optimizer = torch.optim.AdamW(parameters.values(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        stage(batch)["loss"].backward()
        optimizer.step()
    assert all(value.grad is not None for value in parameters.values())
    truth = depth_state(batch["depth_m"], *stage.system.predictor.grid(*batch["rgb"].shape[-2:]))
    assert stage(batch)["state"] < 0.2 * truth.var()
    with torch.no_grad():
        sheet = stage.eval()(batch)
    assert sheet.metrics["recognised"] > 0.8
    assert sheet.metrics["abs_rel"] < 0.5
    assert len(sheet.columns) == 3


def test_a_share_of_the_scaffolds_is_the_true_depth(tokenizer_dir: Path, batch: Batch) -> None:
    batch["noise_seed"] = torch.arange(4)
    for rate, count in ((0.0, 0), (1.0, 4), (0.5, 2)):
        stage = build_stage("stage2", tokenizer_dir, fusion__true_depth=rate)
        assert isinstance(stage, FusionStage)
        scaffold, losses = stage._scaffold(batch, stage.known(batch))
        true = (scaffold.depth == batch["depth_m"]).flatten(1).all(1)
        assert torch.equal(true, draw_share(batch["noise_seed"], rate, SCAFFOLD_SEED)) and true.sum() == count
        assert torch.equal(scaffold.fov_y_deg[true], batch["fov_y_deg"][true])
        assert bool((scaffold.confidence[true] == 1).all()) and "depth" in losses


def test_several_draws_of_a_batch_are_a_batch_of_copies(tokenizer_dir: Path, batch: Batch) -> None:
    """Each with a noise and a time of its own; the prompt is read once."""
    losses, reads = [], []
    for draws, seen in ((3, batch), (1, repeated(batch, 3)), (1, batch)):
        stage = wake(build_stage("stage1", tokenizer_dir, depth__flow=0.8, depth__draws=draws))
        encode = stage.system.base.encode
        stage.system.base.encode = lambda ids, *rest, encode=encode: reads.append(len(ids)) or encode(ids, *rest)
        losses.append(stage(seen)["loss"].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] != pytest.approx(losses[2], rel=1e-3)
    assert reads == [4, 12, 4]


@pytest.mark.slow
def test_compiled_layers_give_the_same_losses_and_gradients(tokenizer_dir: Path, batch: Batch) -> None:
    """Traced by dynamo and run as traced: the generated code needs a C++ compiler, which not every machine has."""
    outcomes = []
    for compiled in (False, True):
        stage = build_stage("stage2", tokenizer_dir, depth__flow=0.5)
        names = list(stage.state_dict())
        if compiled:
            stage.compile_layers(backend="aot_eager")
            assert list(stage.state_dict()) == names
        loss = stage(batch)["loss"]
        loss.backward()
        layer = stage.system.predictor.spatial_transformer.layers[0]
        outcomes.append((loss.item(), layer.mlp.up_proj.weight.grad.norm().item()))
    assert outcomes[1] == pytest.approx(outcomes[0], rel=1e-4)


def test_a_new_decoder_keeps_its_words_apart() -> None:
    """Two random words' values differ as much in the last layer as their embeddings do: attention does not wash them
    out. With transformers' standard deviation of 0.02 at this width they do not."""
    torch.manual_seed(0)
    decoder = build_decoder(mini_settings().system.decoder)
    ids = torch.randint(0, 512, (32, 40))
    other = ids.clone()
    other[:, 20] = torch.randint(0, 512, (32,))
    with torch.no_grad():
        (_, first), (_, second) = prompt_keys_values(decoder, ids), prompt_keys_values(decoder, other)
    values, changed = first[-1][1][:, :, 20], second[-1][1][:, :, 20]
    assert ((values - changed).norm() / values.norm()).item() > 0.9


def test_dropped_captions_keep_their_depth(tokenizer_dir: Path, tokens: PromptTokens) -> None:
    base = build_system(tokenizer_dir).base
    with torch.no_grad():
        prompt = base.encode(*tokens.batch(["a red car on grass", "a blue chair"], False), None)
        empty = base.encode(*tokens.batch(["", ""], False), None)
        mixed = prompt.with_hidden_of(empty, torch.tensor([True, False]))
        latent, time = torch.randn(2, base.sizes.transformer.in_channels, 4, 4), torch.rand(2)
        torch.nn.init.normal_(base.transformer.norm_out.linear_2.weight, std=0.1)
        both = base.velocity(latent, time, mixed)
        alone = base.velocity(latent[:1], time[:1], _row(empty, 0))
        kept = base.velocity(latent[1:], time[1:], _row(prompt, 1))
    assert mixed.keys_values is prompt.keys_values and mixed.mask is prompt.mask
    torch.testing.assert_close(both[:1], alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(both[1:], kept, rtol=1e-4, atol=1e-5)


def _row(prompt: Prompt, index: int) -> Prompt:
    row = slice(index, index + 1)
    return Prompt(prompt.hidden[row], prompt.hidden_mask[row], [], prompt.mask[row], prompt.next_position[row])


def test_the_data_only_control_learns_nothing_of_depth(tmp_path: Path, tokenizer_dir: Path, batch: Batch) -> None:
    control = {"diffusion__depth_dropout": 1.0, "fusion__true_depth": 1.0, "fusion__freeze_predictor": True}
    stage = build_stage("stage2", tokenizer_dir, **control)
    losses = stage(batch)
    losses["loss"].backward()
    assert set(losses) == {"loss", "flow"}
    learned = {
        name for name, value in trainable_parameters(stage).items() if value.grad is not None and value.grad.any()
    }
    assert learned and all(name.startswith(TRANSFORMER) for name in learned)
    export_mini(stage.system, tokenizer_dir, tmp_path, "test", {})
    assert (tmp_path / TOKENIZER_DIR / "vocab.json").is_file()
    sampler = SystemSampler(tmp_path)
    assert not sampler.reads_depth
    torch.nn.init.normal_(sampler.system.adapter.out.weight)
    assert sampler.reads_depth


def test_the_expert_can_start_from_the_mllm(tokenizer_dir: Path) -> None:
    sizes = mini_settings().system
    # At the full width, as it must be.
    wide = {"hidden_size": sizes.decoder.hidden_size, "intermediate_size": sizes.decoder.intermediate_size}
    spatial = replace(sizes.spatialfusion.spatial_transformer, **wide)
    sizes = replace(sizes, spatialfusion=replace(sizes.spatialfusion, spatial_transformer=spatial))
    base = MiniBase(sizes, tokenizer_dir, 0)
    expert = System(base, sizes.spatialfusion, 0).predictor.spatial_transformer
    expert.initialize_from_mllm(base.decoder_state())
    read = base.text_encoder.model.layers[expert.layer_map[2]].mlp.up_proj.weight
    assert torch.equal(expert.layers[2].mlp.up_proj.weight, read)

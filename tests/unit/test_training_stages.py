"""The stages of the Mini's training: what learns, from what, and what stays as it is."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sf_model.training.tokenizer import encode_prompts, load_tokenizer

from sf_model.evaluation.sampling import SystemSampler
from sf_model.models.depth_flow import depth_state
from sf_model.training.bases.qwen2 import build_decoder, prompt_keys_values
from sf_model.training.data.world import PLAIN_MIXTURE, SPATIAL_MIXTURE, WorldBatches
from sf_model.training.export import export_system
from sf_model.training.mini_sizes import SIZES
from sf_model.training.stages import STAGES, SourceStage, StageConfig
from sf_model.training.system import EncodedPrompt, SpatialFusionSystem, drop_prompts
from tests.unit.mini_training import DUMMY, build_stage, data_config


@pytest.mark.parametrize(
    ("name", "config", "parts"),
    [
        ("mllm", StageConfig(), {"decoder"}),
        ("joint", StageConfig(true_depth=0.5), {"decoder", "predictor", "adapter", "transformer"}),
        ("base", StageConfig(), {"decoder", "transformer"}),
        ("base", StageConfig(freeze_mllm=True), {"transformer"}),
        ("stage1", StageConfig(), {"predictor"}),
        ("stage2", StageConfig(), {"predictor", "adapter", "transformer"}),
        ("stage2", StageConfig(freeze_predictor=True), {"adapter", "transformer"}),
        ("stage1", StageConfig(depth_flow=0.5), {"predictor"}),
        ("stage2", StageConfig(depth_flow=1.0), {"predictor", "adapter", "transformer"}),
        ("stage2", StageConfig(freeze_predictor=True, true_depth=1.0), {"adapter", "transformer"}),
    ],
)
def test_freeze_sets(name: str, config: StageConfig, parts: set[str], tokenizer_dir: Path) -> None:
    """After one step, exactly the named parts' parameters have gradients, and all parts that should learn do."""
    stage = build_stage(name, tokenizer_dir, config=config)
    assert {key.split(".")[0] for key in stage.trainable_parameters()} == parts
    mixture = PLAIN_MIXTURE if name == "base" else SPATIAL_MIXTURE
    batch = WorldBatches(data_config(dict(mixture), language_batch=2), tokenizer_dir)[0]
    stage(batch, torch.Generator().manual_seed(0))["loss"].backward()
    with_gradient = {key for key, value in stage.system.named_parameters() if value.grad is not None}
    assert {key.split(".")[0] for key in with_gradient} == parts
    assert with_gradient == set(stage.trainable_parameters())
    for key, _ in stage.system.named_parameters():
        editing = any(word in key for word in ("ref_image", "source_encoder", "image_index_embedding"))
        no_flow = config.depth_flow == 0 and key.startswith("predictor.depth_flow.")
        assert (key in with_gradient) == (key.split(".")[0] in parts and not editing and not no_flow), key


def test_the_source_encoder_learns_depth_and_objects_from_pictures(tokenizer_dir: Path) -> None:
    """It alone, and in a few steps more than the mean: of four pictures, the state within 0.2 of its variance, and
    what most objects are."""
    torch.manual_seed(0)
    tokens = encode_prompts(load_tokenizer(tokenizer_dir), [""])[0]
    stage = SourceStage(SpatialFusionSystem(SIZES["dummy"].with_source(at_queries=True), 0), StageConfig(), tokens)
    parameters = stage.trainable_parameters()
    assert parameters and all(name.startswith("predictor.source_encoder.monocular_depth.") for name in parameters)
    batch = WorldBatches(replace(data_config({"free": 1.0}), cell_px=8), tokenizer_dir)[0]
    assert stage.recognised(batch) < 0.2
    optimizer = torch.optim.AdamW(parameters.values(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        stage(batch, torch.Generator())["loss"].backward()
        optimizer.step()
    assert all(value.grad is not None for value in parameters.values())
    height, width = batch["rgb"].shape[-2:]
    truth = depth_state(batch["depth_m"], *stage.system.predictor.grid(height, width))
    assert stage(batch, torch.Generator())["state"] < 0.2 * truth.var()
    assert stage.recognised(batch) > 0.8
    read = stage.read(batch["rgb"], batch["fov_y_deg"]).to_metric_depth()
    valid = torch.isfinite(batch["depth_m"])
    assert (torch.isfinite(read.depth) == valid).float().mean() > 0.95
    assert (read.depth / batch["depth_m"])[valid & torch.isfinite(read.depth)].log().abs().median() < 0.5


def test_what_sees_source_images_is_learned_alone(tokenizer_dir: Path) -> None:
    """Edits move what reads the encoder, not the encoder."""
    tokens = encode_prompts(load_tokenizer(tokenizer_dir), [""])[0]
    system = SpatialFusionSystem(SIZES["dummy"].with_source(at_queries=True), 0)
    for name in ("stage1", "stage2", "joint"):
        learned = STAGES[name](system, StageConfig(edits=0.5), tokens).trainable_parameters()
        of_sources = {key for key in learned if ".source_encoder." in key}
        assert of_sources and not any("monocular_depth" in key for key in of_sources)


def test_a_share_of_the_scaffolds_is_the_true_depth(tokenizer_dir: Path) -> None:
    batch = WorldBatches(data_config({"free": 1.0}), tokenizer_dir)[0]
    for rate, shares in ((0.0, {0.0}), (1.0, {1.0}), (0.5, {0.25, 0.5, 0.75})):
        stage = build_stage("stage2", tokenizer_dir, config=StageConfig(true_depth=rate))
        prompt = stage.system.encode(batch["input_ids"], batch["prompt_mask"])
        scaffold, losses = stage._scaffold(prompt, batch, torch.Generator().manual_seed(1))
        true = (scaffold.depth == batch["depth_m"]).flatten(1).all(1)
        assert true.float().mean().item() in shares
        assert torch.equal(scaffold.fov_y_deg[true], batch["fov_y_deg"][true])
        assert bool((scaffold.confidence[true] == 1).all()) and "depth" in losses


def test_several_draws_of_a_batch_are_a_batch_of_copies(tokenizer_dir: Path) -> None:
    """Each with a noise and a time of its own; the prompt is read once."""
    batch = WorldBatches(data_config({"free": 1.0}), tokenizer_dir)[0]
    copies = {name: value.repeat_interleave(3, dim=0) for name, value in batch.items()}
    losses = []
    for draws, seen in ((3, batch), (1, copies), (1, batch)):
        config = StageConfig(depth_flow=0.8, depth_draws=draws)
        stage = build_stage("stage1", tokenizer_dir, config=config)
        torch.nn.init.normal_(
            stage.system.predictor.depth_flow.patch.weight, generator=torch.Generator().manual_seed(2)
        )
        losses.append(stage(seen, torch.Generator().manual_seed(1))["loss"].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] != pytest.approx(losses[2], rel=1e-3)


def test_compiled_layers_give_the_same_losses_and_gradients(tokenizer_dir: Path) -> None:
    """Traced by dynamo and run as traced: the generated code needs a C++ compiler, which not every machine has."""
    batch = WorldBatches(data_config({"free": 1.0}), tokenizer_dir)[0]
    outcomes = []
    for compiled in (False, True):
        stage = build_stage("stage2", tokenizer_dir, config=StageConfig(depth_flow=0.5))
        names = list(stage.state_dict())
        if compiled:
            stage.system.compile_layers(backend="aot_eager")
            assert list(stage.state_dict()) == names
        loss = stage(batch, torch.Generator().manual_seed(1))["loss"]
        loss.backward()
        layer = stage.system.predictor.spatial_transformer.layers[0]
        outcomes.append((loss.item(), layer.mlp.up_proj.weight.grad.norm().item()))
    assert outcomes[1] == pytest.approx(outcomes[0], rel=1e-4)


def test_a_new_decoder_keeps_its_words_apart() -> None:
    """Two random words' values differ as much in the last layer as their embeddings do: attention does not wash them
    out. With transformers' standard deviation of 0.02 at this width they do not."""
    torch.manual_seed(0)
    decoder = build_decoder(SIZES["mini"].decoder)
    ids = torch.randint(0, 1024, (32, 40))
    other = ids.clone()
    other[:, 20] = torch.randint(0, 1024, (32,))
    with torch.no_grad():
        (_, first), (_, second) = prompt_keys_values(decoder, ids), prompt_keys_values(decoder, other)
    values, changed = first[-1][1][:, :, 20], second[-1][1][:, :, 20]
    assert ((values - changed).norm() / values.norm()).item() > 0.9


def test_dropped_captions_keep_their_depth(tokenizer_dir: Path) -> None:
    system = SpatialFusionSystem(DUMMY, 0)
    tokenizer = load_tokenizer(tokenizer_dir)
    ids, mask = encode_prompts(tokenizer, ["a red car on grass", "a blue chair"])
    empty_ids, empty_mask = encode_prompts(tokenizer, [""])
    with torch.no_grad():
        prompt, empty = system.encode(ids, mask), system.encode(empty_ids, empty_mask)
        mixed = drop_prompts(prompt, empty, torch.tensor([True, False]))
        latent, time = torch.randn(2, 3, 32, 32), torch.rand(2)
        torch.nn.init.normal_(system.transformer.norm_out.linear_2.weight, std=0.1)
        both = system.velocity(latent, time, mixed, None)
        alone = system.velocity(latent[:1], time[:1], empty, None)
        kept = system.velocity(latent[1:], time[1:], EncodedPrompt(prompt.hidden[1:], prompt.mask[1:], []), None)
    assert mixed.keys_values is prompt.keys_values
    torch.testing.assert_close(both[:1], alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(both[1:], kept, rtol=1e-4, atol=1e-5)


def test_the_data_only_control_learns_nothing_of_depth(tmp_path: Path, tokenizer_dir: Path) -> None:
    config = StageConfig(depth_dropout=1.0, true_depth=1.0, freeze_predictor=True)
    stage = build_stage("stage2", tokenizer_dir, config=config)
    batch = WorldBatches(data_config(dict(SPATIAL_MIXTURE)), tokenizer_dir)[0]
    losses = stage(batch, torch.Generator().manual_seed(0))
    losses["loss"].backward()
    assert set(losses) == {"loss", "flow"}
    learned = {
        name for name, value in stage.trainable_parameters().items() if value.grad is not None and value.grad.any()
    }
    assert learned and all(name.startswith("transformer.") for name in learned)
    export_system(stage.system, tokenizer_dir, tmp_path, "test", {})
    sampler = SystemSampler(tmp_path)
    assert not sampler.reads_depth
    torch.nn.init.normal_(sampler.system.adapter.out.weight)
    assert sampler.reads_depth


def test_the_expert_can_start_from_the_mllm() -> None:
    system = SpatialFusionSystem(SIZES["mini"], 0)
    expert = system.predictor.spatial_transformer
    expert.initialize_from_mllm(system.decoder.model.state_dict())
    read = system.decoder.model.layers[expert.layer_map[2]].mlp.up_proj.weight
    assert torch.equal(expert.layers[2].mlp.up_proj.weight, read)

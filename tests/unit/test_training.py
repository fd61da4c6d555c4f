"""Training: losses by hand, freeze sets, exact resume, and the commands from tokenizer to export."""

import argparse
import json
import math
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from sf_model import world
from sf_model.backbones.mini import DIT_FILE, MLLM_FILE, SPATIALFUSION_FILE, TOKENIZER_DIR, load_base_weights
from sf_model.checkpoint import load_checkpoint
from sf_model.depth_flow import depth_state
from sf_model.depth_predictor import DepthPrediction
from sf_model.evaluation.sampling import SystemSampler
from sf_model.flow_times import shifted_times
from sf_model.metric_depth import LOG_DEPTH_STD
from sf_model.training import __main__ as command_line
from sf_model.training import run_record
from sf_model.training.ema import ParameterAverage
from sf_model.training.export import export_system, load_exported, part_state_dict
from sf_model.training.flow import euler_sample, interpolate, sample_times
from sf_model.training.loop import LoopConfig, Trainer
from sf_model.training.losses import (
    CONFIDENCE_WEIGHT,
    DIFFERENCE_WEIGHT,
    FOV_WEIGHT,
    VALIDITY_WEIGHT,
    depth_losses,
    difference_loss,
    language_loss,
)
from sf_model.training.mini_sizes import SIZES
from sf_model.training.qwen2 import build_decoder, prompt_keys_values
from sf_model.training.run_state import latest_state, load_optimizer, save_state
from sf_model.training.stages import STAGES, SourceStage, Stage, StageConfig
from sf_model.training.system import EncodedPrompt, SpatialFusionSystem, drop_prompts
from sf_model.training.tokenizer import encode_prompts, load_tokenizer, train_tokenizer
from sf_model.training.world_data import (
    PLAIN_MIXTURE,
    SPATIAL_MIXTURE,
    WorldBatches,
    WorldDataConfig,
    cell_labels,
    language_batch,
)

DUMMY = SIZES["dummy"]


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer") / TOKENIZER_DIR
    train_tokenizer(directory, DUMMY.decoder.vocab_size, seed=0, size=500)
    return directory


def data_config(mixture: dict[str, float], language_batch: int = 0) -> WorldDataConfig:
    return WorldDataConfig(
        image_sizes=(DUMMY.image_size,),
        batch_size=4,
        stream="test",
        seed=0,
        split="train",
        mixture=tuple(mixture.items()),
        language_batch=language_batch,
        supersample=1,
        length_buckets=2,
        max_objects=4,
    )


def build_stage(name: str, tokenizer_dir: Path, seed: int = 0, config: StageConfig | None = None) -> Stage:
    empty_ids, _ = encode_prompts(load_tokenizer(tokenizer_dir), [""])
    return STAGES[name](SpatialFusionSystem(DUMMY, seed), config or StageConfig(), empty_ids)


def _forget(path: Path, part: str) -> None:
    """Take the tensors with `part` in their names out of a file."""
    tensors = {name: value for name, value in safetensors.torch.load_file(path).items() if part not in name}
    safetensors.torch.save_file(tensors, path)


def test_depth_loss_by_hand() -> None:
    # One pixel at 1 m predicted a factor e too far, one of sky predicted as surface with even odds.
    prediction = DepthPrediction(
        log_depth=torch.tensor([[[1.0, 5.0]]]),
        validity_logit=torch.zeros(1, 1, 2),
        confidence_logit=torch.zeros(1, 1, 2),
        fov_y_deg=torch.tensor([66.0]),
    )
    losses = depth_losses(prediction, torch.tensor([[[1.0, math.inf]]]), torch.tensor([60.0]))
    log_depth, validity, fov = 1 / LOG_DEPTH_STD**2, math.log(2), 0.1**2
    # Confidence 1/2: c * r - log c with r = 1 / 0.1 at the surface and 0.5 / 0.1 at the sky.
    confidence = (0.5 * 10 + 0.5 * 5) / 2 + math.log(2)
    assert losses["log_depth"].item() == pytest.approx(log_depth, rel=1e-5)
    assert losses["validity"].item() == pytest.approx(validity, rel=1e-5)
    assert losses["fov"].item() == pytest.approx(fov, rel=1e-4)
    assert losses["confidence"].item() == pytest.approx(confidence, rel=1e-5)
    total = log_depth + VALIDITY_WEIGHT * validity + CONFIDENCE_WEIGHT * confidence + FOV_WEIGHT * fov
    assert losses["depth"].item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize(("error", "best"), [(0.05, 1.0), (0.2, 0.5), (1.0, 0.1)])
def test_confidence_learns_the_error(error: float, best: float) -> None:
    """The loss's minimum over c lies at min(1, 0.1 / error)."""
    logits = torch.linspace(-5, 8, 500).view(500, 1, 1)
    values = [
        depth_losses(
            DepthPrediction(torch.full((1, 1, 1), error), torch.zeros(1, 1, 1), logit.view(1, 1, 1), torch.ones(1)),
            torch.ones(1, 1, 1),
            torch.ones(1),
        )["confidence"].item()
        for logit in logits
    ]
    at_minimum = torch.sigmoid(logits[values.index(min(values))]).item()
    assert at_minimum == pytest.approx(best, abs=0.01)


def test_confidence_never_softens_the_depth() -> None:
    log_depth = torch.tensor([[[1.0, 2.0], [3.0, 5.0]]], requires_grad=True)
    prediction = DepthPrediction(log_depth, torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), torch.ones(1))
    losses = depth_losses(prediction, torch.ones(1, 2, 2), torch.ones(1))
    (both,) = torch.autograd.grad(losses["depth"], log_depth, retain_graph=True)
    (alone,) = torch.autograd.grad(losses["log_depth"] + DIFFERENCE_WEIGHT * losses["differences"], log_depth)
    assert torch.equal(both, alone)


def test_the_total_counts_differences_and_an_image_s_weight() -> None:
    """The second image is a copy with four times the weight; the first three parts count it so, the others do not."""
    log_depth = torch.tensor([[[1.0, 2.0], [3.0, 5.0]]])
    depth = torch.ones(1, 2, 2)

    def losses(times: int, weight: torch.Tensor | None) -> dict[str, torch.Tensor]:
        many = (log_depth.expand(times, 2, 2), torch.zeros(times, 2, 2), torch.zeros(times, 2, 2))
        fov = torch.full((times,), 60.0)
        return depth_losses(DepthPrediction(*many, 1.1 * fov), depth.expand(times, 2, 2), fov, weight)

    alone, weighted = losses(1, None), losses(2, torch.tensor([1.0, 4.0]))
    # Differences at distance 1: across 1 and 2, down 2 and 3; over 4 pixels.
    assert alone["differences"].item() == pytest.approx((1 + 4 + 4 + 9) / 4 / LOG_DEPTH_STD**2, rel=1e-5)
    for part in ("log_depth", "differences", "validity"):
        assert weighted[part].item() == pytest.approx(2.5 * alone[part].item(), rel=1e-5)
    for part in ("confidence", "fov"):
        assert weighted[part].item() == pytest.approx(alone[part].item(), rel=1e-5)
    total = alone["log_depth"] + DIFFERENCE_WEIGHT * alone["differences"] + VALIDITY_WEIGHT * alone["validity"]
    total = total + CONFIDENCE_WEIGHT * alone["confidence"] + FOV_WEIGHT * alone["fov"]
    assert alone["depth"].item() == pytest.approx(total.item(), rel=1e-6)


def test_difference_loss_by_hand() -> None:
    """A step of 1 between two columns of three rows, beside a column of sky: of the distances 1, 2, 4, 8 only 1 joins
    two surfaces across (3 pairs); down, nothing differs. 6 pixels have a surface."""
    error = torch.tensor([[[0.0, 1.0, 0.0]] * 3])
    valid = torch.tensor([[[True, True, False]] * 3])
    assert difference_loss(error, valid).item() == pytest.approx(3 / 6)
    assert difference_loss(torch.full((1, 16, 16), 2.0), torch.ones(1, 16, 16, dtype=torch.bool)).item() == 0.0
    # One wrong pixel in a line of ten: pairs at distance 1 and 2 on both of its sides, 4 and 8 on one only.
    line = torch.zeros(1, 1, 10)
    line[0, 0, 3] = 0.5
    assert difference_loss(line, torch.ones(1, 1, 10, dtype=torch.bool)).item() == pytest.approx(5 * 0.25 / 10)


def test_language_loss_ignores_padding() -> None:
    logits = torch.zeros(1, 4, 8)
    logits[0, 0, 3] = 100.0  # token 3 follows surely; then even odds over 8; then padding
    ids, mask = torch.tensor([[1, 3, 5, 0]]), torch.tensor([[True, True, True, False]])
    assert language_loss(logits, ids, mask).item() == pytest.approx(math.log(8) / 2, rel=1e-5)


def test_flow_goes_from_noise_to_data() -> None:
    data, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    assert torch.equal(interpolate(data, noise, torch.ones(2)), data)
    assert torch.equal(interpolate(data, noise, torch.zeros(2)), noise)
    # Straight paths: the exact velocity reaches the data in any number of steps, whatever the shift.
    reached = euler_sample(lambda x, t: data - noise, noise, steps=7, shift=2.6)
    torch.testing.assert_close(reached, data, atol=1e-5, rtol=1e-5)


def test_shifted_times_by_hand() -> None:
    # sigma 1/2 with shift 3: 1.5 / 2 = 0.75, so a quarter of the way in time.
    assert shifted_times(2, 3.0).tolist() == [0.0, 0.25, 1.0]


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


def test_the_labels_of_cells_by_hand() -> None:
    """A cell is of the object that covers most of it, if that is a fifth; beyond the names where none does."""
    scene = world.sample_scene(random.Random(0), "train", count=2)
    first, second = ((world.CATEGORY_NAMES.index(o.category), world.COLORS.index(o.color)) for o in scene.objects)
    none = (len(world.CATEGORY_NAMES), len(world.COLORS))
    index = torch.full((1, 4, 12), -1)
    index[0, :2, 8:] = -2
    index[0, 0, :3] = 0  # 3 of 16 pixels: not enough
    index[0, :, 4:8], index[0, :1, 4:8] = 1, 0
    index[0, 2, 8:] = 0  # a quarter
    category, color = cell_labels(index, [scene], 4)
    assert list(zip(category[0, 0].tolist(), color[0, 0].tolist())) == [none, second, first]


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


def test_documents_tell_a_scene_twice(tokenizer_dir: Path) -> None:
    """Each is two prompts in the template: a caption and where its objects are, or two texts that fix one scene, with
    the same numbers in both."""
    tokenizer = load_tokenizer(tokenizer_dir)
    batch = language_batch(tokenizer, 0, "train", 0, 128)
    documents = [tokenizer.decode(ids[mask]) for ids, mask in zip(batch["language_ids"], batch["language_mask"])]
    both_fix = grounded = 0
    for document in documents:
        first, second = re.findall(r"<\|im_start\|>(.*?)<\|im_end\|>", document)
        names = re.findall(r"(an? [a-z ]+) \d\d \d\d \d\d \d\d \d+\.\d m", second)
        if names:
            grounded += 1
            assert all(name.removeprefix("a ").removeprefix("an ").split()[-1] in first for name in names)
        elif all("field of view" in text for text in (first, second)):
            both_fix += 1
            numbers, again = (
                sorted(re.findall(r"\d+(?:\.\d)? (?:m to the \w+|m|degrees)", t)) for t in (first, second)
            )
            assert numbers == again
    assert 70 < grounded < 110  # GROUNDED_SHARE is 0.7
    assert 3 < both_fix < 25  # LANGUAGE_MIXTURE has 0.3 of them among the rest


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


def test_scenes_of_too_many_objects_are_drawn_again(tokenizer_dir: Path) -> None:
    few = WorldBatches(replace(data_config({"plain": 1.0}), max_objects=1), tokenizer_dir)
    assert {len(item.scene.objects) for index in range(8) for item in few.captioned(index)} == {1}


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


def test_the_average_follows_and_is_applied_only_inside() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    average = ParameterAverage({"w": weight}, decay=0.5)
    with torch.no_grad():
        weight.fill_(1.0)
    average.update({"w": weight}, step=1)  # decay (1 + 1) / (10 + 1) = 2 / 11
    with average.applied({"w": weight}):
        torch.testing.assert_close(weight.data, torch.full((3,), 9 / 11))
    assert weight.data.tolist() == [1.0, 1.0, 1.0]


def loop_config(steps: int) -> LoopConfig:
    return LoopConfig(
        steps=steps,
        learning_rate=1e-3,
        warmup_steps=2,
        weight_decay=0.01,
        gradient_clip=1.0,
        ema_decay=0.9,
        seed=0,
        log_every=1,
        save_every=2,
        sheet_every=100,
        workers=0,
        mixed_precision="bf16",
    )


@pytest.mark.parametrize(("name", "depth_flow"), [("base", 0.0), ("stage1", 0.0), ("stage1", 0.7), ("stage2", 0.7)])
def test_two_steps_resume_two_steps_are_four_steps(
    name: str, depth_flow: float, tokenizer_dir: Path, tmp_path: Path
) -> None:
    mixture = PLAIN_MIXTURE if name == "base" else SPATIAL_MIXTURE
    data = WorldBatches(data_config(dict(mixture), language_batch=2 if name == "base" else 0), tokenizer_dir)
    validation = WorldBatches(data_config(dict(SPATIAL_MIXTURE)), tokenizer_dir)[7]
    states = {}
    for run, stops in (("whole", [4]), ("resumed", [2, 4])):
        for stop in stops:
            # A resumed run is built anew, from other random weights, as a restarted process builds it.
            trainer = Trainer(
                build_stage(name, tokenizer_dir, 0 if stop == stops[0] else 5, StageConfig(depth_flow=depth_flow)),
                data,
                validation,
                loop_config(4),
                tmp_path / run,
            )
            _train_until(trainer, stop)
        states[run] = {
            file: safetensors.torch.load_file(tmp_path / run / "state-0000004" / file)
            for file in ("system.safetensors", "optimizer.safetensors", "average.safetensors")
        }
    for file, tensors in states["whole"].items():
        assert tensors.keys() == states["resumed"][file].keys()
        assert all(torch.equal(value, states["resumed"][file][key]) for key, value in tensors.items()), file


def _train_until(trainer: Trainer, stop: int) -> None:
    """Train, and be killed right after the state of step `stop` was saved."""

    class KilledError(Exception):
        pass

    save = trainer._save

    def save_then_die() -> None:
        save()
        if trainer.step == stop:
            raise KilledError

    trainer._save = save_then_die  # type: ignore[method-assign]
    with pytest.raises(KilledError):
        trainer.train()


def test_batches_are_a_function_of_seed_and_index(tokenizer_dir: Path) -> None:
    first, again = (WorldBatches(data_config(dict(SPATIAL_MIXTURE)), tokenizer_dir) for _ in range(2))
    again[0]
    assert all(torch.equal(value, again[3][key]) for key, value in first[3].items())
    assert not torch.equal(first[3]["rgb"], first[4]["rgb"])


def test_batches_take_their_image_sizes_by_turns(tokenizer_dir: Path) -> None:
    data = WorldBatches(replace(data_config(dict(SPATIAL_MIXTURE)), image_sizes=(24, 24, 16)), tokenizer_dir)
    assert [data[index]["rgb"].shape[-2:] for index in range(4)] == [(24, 24), (24, 24), (16, 16), (24, 24)]
    assert data[2]["depth_m"].shape[-2:] == (16, 16)


def test_a_limited_set_is_the_same_for_every_run_and_every_epoch_shows_it_once(tokenizer_dir: Path) -> None:
    limited = replace(data_config(dict(SPATIAL_MIXTURE)), scenes=16)

    def captions(config: WorldDataConfig, batches: range) -> list[str]:
        data = WorldBatches(config, tokenizer_dir)
        return [item.caption for index in batches for item in data.captioned(index)]

    first, second = captions(limited, range(4)), captions(limited, range(4, 8))
    assert len(set(first)) == 16 and sorted(first) == sorted(second) and first != second
    other = captions(replace(limited, stream="stage2", seed=5), range(4))
    assert sorted(other) == sorted(first) and other != first
    assert set(captions(replace(limited, scenes=8), range(2))) < set(first)
    # Nothing that a stage has of its own changes the set.
    own = replace(limited, mixture=tuple(PLAIN_MIXTURE.items()), max_objects=1, image_sizes=(16,))
    assert sorted(captions(own, range(4))) == sorted(first)
    for wrong in ({"scenes": -1}, {"scenes": 16, "edits": 0.5}):
        with pytest.raises(ValueError, match="positive number of scenes, and no edits"):
            replace(limited, **wrong)


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


def test_batches_of_edits_are_a_share_of_all(tokenizer_dir: Path) -> None:
    data = WorldBatches(replace(data_config(dict(SPATIAL_MIXTURE)), edits=0.4), tokenizer_dir)
    assert [data.is_edit(index) for index in range(10)] == [False, False, True, False, True] * 2
    batch, pairs = data[2], data.edit_pairs(2)
    assert torch.equal(batch["rgb"], world.render([pair.target for pair in pairs], 32, 32).rgb * 2 - 1)
    assert torch.equal(batch["source"], world.render([pair.source for pair in pairs], 32, 32).rgb)
    assert "source" not in data[1]
    assert data.edit_pairs(2) != data.edit_pairs(4)


def test_edits_train_and_export_what_reads_the_source(
    tmp_path: Path, tokenizer_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From weights without editing; a run that would drop it is refused."""
    runs = tmp_path / "runs"
    shutil.copytree(tokenizer_dir, runs / "dummy" / TOKENIZER_DIR)
    common = ["--size", "dummy", "--runs", str(runs), "--steps", "2", "--batch-size", "4", "--workers", "0"]

    def train(stage: str, *more: str) -> None:
        monkeypatch.setattr("sys.argv", ["training", stage, *common, *more])
        command_line.main()

    train("joint")
    parts = [f"--part={name}={runs / 'dummy' / 'joint'}" for name in ("decoder", "predictor", "transformer", "adapter")]
    with pytest.raises(SystemExit, match="run `python -m sf_model.training source` first"):
        train("stage1", *parts, "--edits", "0.5")
    learn = (
        "--steps",
        "100",
        "--batch-size",
        "8",
        "--learning-rate",
        "3e-3",
        "--ema-decay",
        "0.9",
        "--sheet-every",
        "100",
    )
    train("source", parts[1], *learn)
    log = (runs / "dummy" / "source" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(log[-1])["validation"].keys() == {"abs_rel", "delta1", "recognised"}
    assert (runs / "dummy" / "source" / "sheets" / "0000100.png").stat().st_size > 1000
    parts[1] = f"--part=predictor={runs / 'dummy' / 'source'}"
    train("stage1", *parts, "--edits", "0.5")
    parts[1] = f"--part=predictor={runs / 'dummy' / 'stage1'}"
    with pytest.raises(SystemExit, match="trained to edit: give --edits"):
        train("stage2", *parts)
    train("stage2", *parts, "--edits", "0.5")
    export = ["training", "export", "--size", "dummy", "--runs", str(runs), "--output"]
    monkeypatch.setattr("sys.argv", [*export, str(tmp_path / "out")])
    command_line.main()
    state = latest_state(runs / "dummy" / "stage2")
    for name in ("system", "average"):
        _forget(state / f"{name}.safetensors", "source_encoder.at_queries.")
    monkeypatch.setattr("sys.argv", [*export, str(tmp_path / "of an older run")])
    command_line.main()
    older = load_exported(tmp_path / "of an older run")
    assert older.sizes == older.sizes.with_source(at_queries=False)
    shutil.rmtree(runs / "dummy" / "stage2")
    with pytest.raises(SystemExit, match="trained to edit: give --edits"):
        train("stage2", "--init", str(tmp_path / "out"))
    exported = load_exported(tmp_path / "out")
    assert exported.sizes == exported.sizes.with_source(at_queries=True) != DUMMY
    before = part_state_dict("transformer", runs / "dummy" / "joint")
    learned = [name for name, value in exported.transformer.named_parameters() if name.startswith("ref_image_")]
    after = exported.transformer.state_dict()
    assert learned and any((after[name] - before[name].bfloat16()).abs().max() > 0 for name in learned)


@pytest.mark.parametrize("text", ["", "64,", "100", "0", "-64", "big"])
def test_image_sizes_that_cut_patches_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="multiples of 8"):
        command_line._image_sizes(text)


def test_the_readme_s_training_commands(tmp_path: Path, tokenizer_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of each, at dummy size, as they are written there."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").replace("\\\n", "")
    commands = re.findall(r"^python -m sf_model\.training (.+)$", readme, re.MULTILINE)
    assert [command.split()[0] for command in commands[:2] + commands[-1:]] == ["tokenizer", "mllm", "export"]
    runs = tmp_path / "runs"
    shutil.copytree(tokenizer_dir, runs / "dummy" / TOKENIZER_DIR)
    for command in commands[1:]:
        words = command.split("#")[0].replace("runs/mini", f"{runs}/dummy").replace("my_mini", str(tmp_path / "out"))
        arguments = [*words.split(), "--size", "dummy", "--runs", str(runs)]
        if "--steps" in arguments:
            arguments += ["--steps", "2", "--batch-size", "4", "--workers", "0", "--sheet-every", "2"]
        monkeypatch.setattr("sys.argv", ["training", *arguments])
        command_line.main()
    checkpoint = load_checkpoint(tmp_path / "out" / SPATIALFUSION_FILE)
    assert list(checkpoint.training["stages"]) == ["mllm", "joint", "source", "stage1", "stage2"]
    assert checkpoint.config == DUMMY.with_source(at_queries=True).spatialfusion


def test_commands_from_tokenizer_to_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """base, stage1 and stage2 at dummy size: what they write loads strictly, and holds the averaged weights."""
    common = ["--size", "dummy", "--runs", str(tmp_path / "runs")]
    short = ["--steps", "2", "--batch-size", "4", "--workers", "0", "--log-every", "1", "--supersample", "1"]

    def run(*arguments: str) -> None:
        monkeypatch.setattr("sys.argv", ["training", *arguments, *common])
        command_line.main()

    with pytest.raises(SystemExit, match=r"holds no trained state; run `python -m sf_model.training base"):
        run("tokenizer")
        run("stage1", *short)
    for stage in ("base", "stage1", "stage2"):
        run(stage, *short, *(["--gradient-checkpointing"] if stage == "stage2" else []))
        log = [json.loads(line) for line in (tmp_path / f"runs/dummy/{stage}/log.jsonl").read_text().splitlines()]
        assert [entry["step"] for entry in log] == [1, 2, 2]
        assert math.isfinite(log[1]["loss"])
        assert (tmp_path / f"runs/dummy/{stage}/sheets/0000002.png").stat().st_size > 1000
    run("export", "--output", str(tmp_path / "out"))
    run("export", "--stage", "base", "--output", str(tmp_path / "base"))
    run("export", "--part", f"transformer={tmp_path / 'base'}", "--output", str(tmp_path / "mixed"))
    for part, origin in (("transformer", "base"), ("predictor", "out"), ("adapter", "out")):
        mixed, own = part_state_dict(part, tmp_path / "mixed"), part_state_dict(part, tmp_path / origin)
        assert all(torch.equal(mixed[name], own[name]) for name in own), part
    assert list(load_checkpoint(tmp_path / "base" / SPATIALFUSION_FILE).training["stages"]) == ["base"]
    with pytest.raises(SystemExit, match="export --stage base needs --output"):
        run("export", "--stage", "base")

    checkpoint = load_checkpoint(tmp_path / "out" / SPATIALFUSION_FILE)
    # Nothing of this training has met a noisy depth: the checkpoint does not claim to know what to do with one.
    assert checkpoint.config == replace(DUMMY.spatialfusion, depth_flow=None)
    assert list(checkpoint.training["stages"]) == ["base", "stage1", "stage2"]
    stage2 = checkpoint.training["stages"]["stage2"]
    assert (stage2["steps"], stage2["batch_size"], stage2["seed"]) == (2, 4, 0)
    assert stage2["commits"] and stage2["commits"][0] in checkpoint.base_revision
    averages = safetensors.torch.load_file(tmp_path / "runs/dummy/stage2/state-0000002/average.safetensors")
    name = "depth_head.fov.weight"
    assert torch.equal(checkpoint.state_dict[name], averages[f"predictor.{name}"].bfloat16())
    base = load_base_weights(tmp_path / "out" / DIT_FILE)
    assert base.revision == checkpoint.base_revision
    assert base.config["hidden_size"] == DUMMY.transformer.hidden_size
    mllm = load_base_weights(tmp_path / "out" / MLLM_FILE)
    assert "lm_head.weight" not in mllm.state_dict
    assert load_tokenizer(tmp_path / "out" / TOKENIZER_DIR)("a car")["input_ids"]

    # The same command again has nothing left to do; another one is refused, and nothing is lost.
    run("stage2", *short)
    with pytest.raises(SystemExit, match=r"begun with other settings \(loop.learning_rate: 0.0006 before, 1.0 now\)"):
        run("stage2", *short, "--learning-rate", "1")

    # The data-only control on a limited set of scenes, whose captions no option changes.
    controls = ["--runs", str(tmp_path / "control"), "--init", str(tmp_path / "out"), "--scenes", "8"]
    shutil.copytree(tmp_path / "runs/dummy" / TOKENIZER_DIR, tmp_path / "control/dummy" / TOKENIZER_DIR)
    common[-1] = str(tmp_path / "control")
    run("stage2", *short, *controls, "--depth-dropout", "1", "--freeze-predictor", "--true-depth", "1")
    settings = json.loads((tmp_path / "control/dummy/stage2/config.json").read_text(encoding="utf-8"))["settings"]
    assert (settings["data"]["scenes"], settings["stage"]["depth_dropout"]) == (8, 1.0)
    for wrong, message in ((["--plain", "1"], "fixed set"), (["--edits", "0.5"], "no edits")):
        with pytest.raises(SystemExit, match=message):
            run("stage2", *short, *controls, *wrong)

    # A run can start from what was exported: with no rate of learning it stays there.
    common[-1] = str(tmp_path / "again")
    shutil.copytree(tmp_path / "runs/dummy" / TOKENIZER_DIR, tmp_path / "again/dummy" / TOKENIZER_DIR)
    run("stage1", *short, "--init", str(tmp_path / "out"), "--learning-rate", "0")
    system = safetensors.torch.load_file(tmp_path / "again/dummy/stage1/state-0000002/system.safetensors")
    assert torch.equal(system[f"predictor.{name}"].bfloat16(), checkpoint.state_dict[name])

    # Base and stage 1 run side by side on one frozen MLLM; stage 2 joins them.
    common[-1] = str(tmp_path / "beside")
    shutil.copytree(tmp_path / "runs/dummy" / TOKENIZER_DIR, tmp_path / "beside/dummy" / TOKENIZER_DIR)
    decoder, runs = f"decoder={tmp_path / 'out'}", tmp_path / "beside/dummy"
    run("base", *short, "--part", decoder, "--freeze-mllm")
    run("stage1", *short, "--part", decoder)
    run("stage2", *short, "--part", f"transformer={runs / 'base'}", "--learning-rate", "0")
    log = [json.loads(line) for line in (runs / "base/log.jsonl").read_text().splitlines()]
    assert "flow" in log[0] and "language" not in log[0]
    joined = safetensors.torch.load_file(runs / "stage2/state-0000002/system.safetensors")
    norm = "model.norm.weight"
    assert torch.equal(joined[f"decoder.{norm}"].bfloat16(), mllm.state_dict[norm])
    for stage, part in (("base", "transformer.x_embedder.weight"), ("stage1", f"predictor.{name}")):
        assert torch.equal(joined[part], average_of(runs / stage)[part])
    common[-1] = str(tmp_path / "other")
    run("tokenizer")
    with pytest.raises(SystemExit, match="adapter=.*neither exported weights nor a run"):
        run("stage1", *short, "--part", f"adapter={tmp_path}", "--part", decoder)


def average_of(run_dir: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(latest_state(run_dir) / "average.safetensors")


def test_times_are_logit_normal() -> None:
    """With the mean -1.8 and the deviation 1.5, 39.4% of the times lie below 0.1: Phi((logit(0.1) + 1.8) / 1.5)."""
    time = sample_times(100_000, -1.8, 1.5, torch.Generator().manual_seed(0))
    assert (time < 0.1).float().mean().item() == pytest.approx(0.3943, abs=0.005)


def test_only_complete_states_count_and_unfinished_ones_go(tokenizer_dir: Path, tmp_path: Path) -> None:
    system = SpatialFusionSystem(DUMMY, 0)
    optimizer = torch.optim.AdamW(system.predictor.parameters())
    (tmp_path / "state-0000400.partial").mkdir()
    for step in (200, 300):
        save_state(tmp_path, step, system, optimizer, [], {"w": torch.ones(1)})
    assert [path.name for path in tmp_path.iterdir()] == ["state-0000300"]
    assert latest_state(tmp_path) == tmp_path / "state-0000300"


def test_the_log_of_a_resumed_run_has_every_step_once(tmp_path: Path) -> None:
    run_record.begin_session(tmp_path, 0, loop=loop_config(4))
    for step in (1, 2, 3):
        run_record.append_log(tmp_path, {"step": step, "loss": 1.0})
    run_record.begin_session(tmp_path, 2, loop=loop_config(4))
    run_record.append_log(tmp_path, {"step": 3, "loss": 2.0})
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(entry["step"], entry["loss"]) for entry in log] == [(1, 1.0), (2, 1.0), (3, 2.0)]
    sessions = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["sessions"]
    assert [session["from_step"] for session in sessions] == [0, 2]


def test_a_run_of_an_earlier_version_goes_on_where_what_is_new_is_off(tmp_path: Path) -> None:
    sizes = SIZES["dummy"]
    assert not SIZES["mini"].spatialfusion.spatial_transformer.source_at_queries
    with_source = sizes.with_source(at_queries=True)
    for name, now in (("off", sizes.with_source(at_queries=False)), ("on", with_source)):
        run_record.begin_session(tmp_path / name, 0, sizes=now)
        path = tmp_path / name / run_record.CONFIG_FILE
        record = json.loads(path.read_text(encoding="utf-8"))
        del record["settings"]["sizes"]["spatialfusion"]["spatial_transformer"]["source_at_queries"]
        path.write_text(json.dumps(record), encoding="utf-8")
    run_record.begin_session(tmp_path / "off", 2, sizes=sizes.with_source(at_queries=False))
    with pytest.raises(run_record.RunError, match="begun with other settings"):
        run_record.begin_session(tmp_path / "on", 2, sizes=with_source)
    with pytest.raises(run_record.RunError, match="begun with other settings"):
        run_record.begin_session(tmp_path / "off", 2, sizes=SIZES["mini"])
    # A field of the data, which is a level higher.
    data = data_config({"free": 1.0})
    run_record.begin_session(tmp_path / "data", 0, data=data)
    path = tmp_path / "data" / run_record.CONFIG_FILE
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["settings"]["data"]["cell_px"]
    path.write_text(json.dumps(record), encoding="utf-8")
    run_record.begin_session(tmp_path / "data", 2, data=data)
    with pytest.raises(run_record.RunError, match="data.cell_px: None before, 8 now"):
        run_record.begin_session(tmp_path / "data", 2, data=replace(data, cell_px=8))


def test_moments_of_what_no_longer_learns_are_refused_by_name(tmp_path: Path) -> None:
    module = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = save_state(tmp_path, 1, module, optimizer, ["weight", "bias"], {})
    load_optimizer(state, optimizer, ["weight", "bias"])
    with pytest.raises(ValueError, match="1 parameters learned .* such as bias: begin a new run"):
        load_optimizer(state, torch.optim.AdamW([module.weight]), ["weight"])


def test_the_expert_can_start_from_the_mllm() -> None:
    system = SpatialFusionSystem(SIZES["mini"], 0)
    expert = system.predictor.spatial_transformer
    expert.initialize_from_mllm(system.decoder.model.state_dict())
    read = system.decoder.model.layers[expert.layer_map[2]].mlp.up_proj.weight
    assert torch.equal(expert.layers[2].mlp.up_proj.weight, read)


def test_tokenizer_directory_has_nothing_that_transformers_4_refuses(tokenizer_dir: Path) -> None:
    config = json.loads((tokenizer_dir / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert not isinstance(config.get("extra_special_tokens"), list)
    assert {name for name in ("vocab.json", "merges.txt") if (tokenizer_dir / name).exists()} == {
        "vocab.json",
        "merges.txt",
    }


def test_tokenizer_keeps_every_text(tokenizer_dir: Path) -> None:
    tokenizer = load_tokenizer(tokenizer_dir)
    text = "a red car 2.5 m away, Gr\u00fc\u00dfe \u732b (x)"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    ids, mask = encode_prompts(tokenizer, ["a red car", ""])
    assert ids[1, : mask[1].sum()].tolist() == [1, 2]  # the template's two special tokens
    assert not ids[~mask].any()

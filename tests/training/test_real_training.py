"""Training beside real bases, on tiny random weights of the real architectures: from images to a checkpoint."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from sf_model.checkpoint import load_checkpoint
from sf_model.files.picture_sheet import GUTTER_PX
from sf_model.training import loop, sheets
from sf_model.training.bases.omnigen2 import OmniGen2Base
from sf_model.training.data.numbered import Share
from sf_model.training.data.prepared import StoreBatches, split_rows
from sf_model.training.data.store import Place, Row, Store
from sf_model.training.loop import Trainer
from sf_model.training.run_state import AVERAGE, OPTIMISER, TRAINED
from sf_model.training.settings import load_settings
from sf_model.training.system import IMAGE_STEPS
from tests.training import tiny_bases, tiny_data
from tests.training.run_command import run_command as run

STATE_FILES = (TRAINED, OPTIMISER, AVERAGE)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    folder = tmp_path_factory.mktemp("weights")
    return {base: tiny_bases.write_weights(base, folder / base) for base in ("omnigen2", "qwen_image")}


def log(config: Path, stage: str) -> list[dict]:
    path = Path(load_settings(config).runs) / stage / "log.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def state_of(runs: Path, stage: str, step: int) -> dict[str, dict[str, torch.Tensor]]:
    return {name: safetensors.torch.load_file(runs / stage / f"state-{step:07d}" / name) for name in STATE_FILES}


@pytest.mark.parametrize(("base", "cache"), [("omnigen2", "nothing"), ("qwen_image", "latents+prompts")])
def test_from_images_to_a_checkpoint(base: str, cache: str, weights: dict, tmp_path: Path) -> None:
    """Full training, with edit pairs, and every kind of bad sample in the folder."""
    tiny_data.write_images(tmp_path, edits=True)
    expected = tiny_data.add_bad_images(tmp_path)
    config = tiny_data.write_config(tmp_path, base, weights[base], edits=True, data__cache=cache)
    with pytest.raises(SystemExit, match="not prepared to the end; run .*cache"):
        run("stage1", config)
    run("cache", config)
    counts = json.loads((tmp_path / "prepared/complete.json").read_text(encoding="utf-8"))
    assert counts["problems"] == expected
    assert (counts["usable"], counts["edits"]) == (len(tiny_data.SIZES), len(tiny_data.SIZES) // 2)
    problems = [json.loads(line) for line in (tmp_path / "prepared/problems.jsonl").read_text().splitlines()]
    assert sum(expected.values()) == len(problems) and all(problem["message"] for problem in problems)

    for stage in ("stage1", "stage2"):
        run(stage, config)
        entries = [entry for entry in log(config, stage) if "loss" in entry]
        assert [entry["step"] for entry in entries] == [1, 2, 3, 4]
        assert all(math.isfinite(entry["loss"]) for entry in entries)
        assert (tmp_path / f"runs/{stage}/sheets/0000004.png").stat().st_size > 1000
    run("export", config, "--output", str(tmp_path / "models"), "--name", "tiny")
    checkpoint = load_checkpoint(tmp_path / "models/spatialfusion/tiny.safetensors")
    assert checkpoint.config.backbone == base
    assert str(tmp_path) not in json.dumps(checkpoint.training)
    assert set(checkpoint.base_fingerprint) == {"mllm", "transformer"}
    averages = safetensors.torch.load_file(tmp_path / "runs/stage2/state-0000004/average.safetensors")
    name = "depth_head.fov.weight"
    assert torch.equal(checkpoint.state_dict[name], averages[f"system.predictor.{name}"].bfloat16())
    trained = safetensors.torch.load_file(tmp_path / "models/diffusion_models/tiny_diffusion_model.safetensors")
    original = safetensors.torch.load_file(weights[base]["diffusion_model"])
    assert trained.keys() == original.keys()
    assert any(not torch.equal(trained[key], original[key].bfloat16()) for key in trained)


@pytest.mark.parametrize("base", ["omnigen2", "qwen_image"])
def test_a_lora_trains_alone_and_a_killed_run_resumes_exactly(
    base: str, weights: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_data.write_images(tmp_path)
    changes = {
        "stage2__fusion__lora_rank": 4,
        "stage2__loop__gradient_checkpointing": True,
        "stage2__loop__mixed_precision": "bf16",
    }
    config = tiny_data.write_config(tmp_path, base, weights[base], edits=False, **changes)
    for command in ("cache", "stage1", "stage2"):
        run(command, config)
    whole = {stage: state_of(tmp_path / "runs", stage, 4) for stage in ("stage1", "stage2")}
    names = whole["stage2"][TRAINED].keys()
    transformer = {name for name in names if name.startswith("system.base.")}
    assert transformer and all(".lora_" in name for name in transformer)
    assert {name.split(".")[1] for name in names} == {"predictor", "adapter", "base"}
    run("export", config, "--output", str(tmp_path / "models"), "--name", "tiny")
    lora = safetensors.torch.load_file(tmp_path / "models/loras/tiny_lora.safetensors")
    assert len(lora) == 3 * len(transformer) // 2  # two matrices and an alpha each
    assert any(value.abs().max() > 0 for name, value in lora.items() if ".lora_B." in name)

    class KilledError(Exception):
        pass

    save = Trainer._save

    def save_then_die(self: Trainer) -> None:
        save(self)
        if self.step == 2:
            raise KilledError

    shutil.rmtree(tmp_path / "runs")
    for stage in ("stage1", "stage2"):
        with monkeypatch.context() as patch, pytest.raises(KilledError):
            patch.setattr(Trainer, "_save", save_then_die)
            run(stage, config)
        run(stage, config)
        resumed = state_of(tmp_path / "runs", stage, 4)
        for file, tensors in whole[stage].items():
            assert tensors.keys() == resumed[file].keys()
            assert all(torch.equal(value, resumed[file][name]) for name, value in tensors.items()), (stage, file)
        assert [entry["step"] for entry in log(config, stage) if "loss" in entry] == [1, 2, 3, 4]


def test_caches_change_nothing_but_rounding_and_micro_batches_nothing(weights: dict, tmp_path: Path) -> None:
    """The first losses with everything computed now, with latents, with prompts too; whole steps and halved ones."""
    tiny_data.write_images(tmp_path, edits=True)
    losses = {}
    for cache, micro in (("nothing", 2), ("nothing", 1), ("latents", 2), ("latents+prompts", 1)):
        config = tiny_data.write_config(
            tmp_path,
            "qwen_image",
            weights["qwen_image"],
            edits=True,
            data__cache=cache,
            data__prepared=str(tmp_path / cache),
            stage1__loop__micro_batch=micro,
            stage2__loop__micro_batch=micro,
        )
        for command in ("cache", "stage1", "stage2"):
            run(command, config)
        losses[cache, micro] = [entry["loss"] for entry in log(config, "stage2") if "loss" in entry]
        shutil.rmtree(tmp_path / "runs")
    reference = losses.pop(("nothing", 2))
    # Logged with five decimals; latents are stored in float16.
    assert losses.pop(("nothing", 1)) == pytest.approx(reference, rel=1e-4)
    for values in losses.values():
        assert values == pytest.approx(reference, rel=5e-3)


def test_a_killed_cache_goes_on_and_other_settings_are_refused(
    weights: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_data.write_images(tmp_path)
    config = tiny_data.write_config(tmp_path, "omnigen2", weights["omnigen2"], edits=False)
    write, shards = Store.write_shard, []

    def die_at_the_second(self: Store, number: int, *rest: object) -> None:
        if number == 1 and not shards:
            shards.append(number)
            raise KeyboardInterrupt
        write(self, number, *rest)

    monkeypatch.setattr(Store, "write_shard", die_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        run("cache", config)
    store = Store(tmp_path / "prepared")
    first = store.shard_path(0).stat().st_mtime_ns
    with pytest.raises(ValueError, match="not prepared to the end"):
        store.require_complete()
    run("cache", config)
    assert store.shard_path(0).stat().st_mtime_ns == first
    training, validation = split_rows(store, 2)
    assert (len(training), len(validation)) == (len(tiny_data.SIZES) - 2, 2)
    assert {place.row.size for place in (*training, *validation)} == {(64, 64), (48, 80)}
    tiny_data.write_config(tmp_path, "omnigen2", weights["omnigen2"], edits=False, data__area_px=32 * 32)
    for command in ("cache", "stage1"):
        with pytest.raises(SystemExit, match=r"prepared with other settings \(area_px: 4096 there, 1024 now\)"):
            run(command, config)
    other = tiny_bases.write_weights("omnigen2", tmp_path / "other")
    vae = safetensors.torch.load_file(other["vae"])
    safetensors.torch.save_file({name: value + 0.01 for name, value in vae.items()}, other["vae"])
    tiny_data.write_config(tmp_path, "omnigen2", other, edits=False)
    for command in ("cache", "stage1"):
        with pytest.raises(SystemExit, match=r"prepared with other settings \(cached_of: .*'vae'"):
            run(command, config)
    # Where things lie, and how many samples are held out, is no matter of the cache.
    moved = {"data__prepared": str(tmp_path / "moved"), "data__path": "gone", "data__validation_samples": 3}
    (tmp_path / "prepared").rename(tmp_path / "moved")
    tiny_data.write_config(tmp_path, "omnigen2", weights["omnigen2"], edits=False, **moved)
    run("stage1", config)


@pytest.mark.parametrize("changed", ["caption", "image", "depth", "fewer"])
def test_a_finished_cache_notices_other_sources(changed: str, tmp_path: Path) -> None:
    """The shards that they are in are made again, and only those; their digest, which a run's record has, changes."""
    tiny_data.write_images(tmp_path)
    parts = dict.fromkeys(("text_encoder", "diffusion_model", "vae", "tokenizer", "vision"), Path("not looked at"))
    config = tiny_data.write_config(tmp_path, "omnigen2", parts, edits=False, data__cache="nothing")
    run("cache", config)
    store = Store(tmp_path / "prepared")
    before = store.counts()
    times = [shard.stat().st_mtime_ns for shard in store.shards()]
    run("cache", config)
    assert store.counts() == before
    assert [shard.stat().st_mtime_ns for shard in store.shards()] == times
    metadata = tmp_path / "images/metadata.jsonl"
    if changed == "caption":
        metadata.write_text(metadata.read_text().replace("5 m away", "6 m away"))
    elif changed == "image":
        Image.new("RGB", (100, 50), (9, 200, 9)).save(tmp_path / "images/04.png")
    elif changed == "depth":
        tiny_data.save_depth(tmp_path / "depth/04.npz", np.full((50, 100), 7.5))
    else:
        metadata.write_text("".join(metadata.read_text().splitlines(keepends=True)[:5]))
    run("cache", config)
    same = [shard.stat().st_mtime_ns == time for shard, time in zip(store.shards(), times)]
    assert same == ([True, False] if changed == "fewer" else [True, False, True])
    assert store.counts()["usable"] == (5 if changed == "fewer" else len(tiny_data.SIZES))
    assert store.counts()["sources"] != before["sources"]


def test_samples_of_one_name_are_used_once_and_listed(tmp_path: Path) -> None:
    tiny_data.write_images(tmp_path)
    with (tmp_path / "images/metadata.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"file_name": "00.jpg", "text": "another car"}) + "\n")
    Image.new("RGB", (64, 64)).save(tmp_path / "images/00.jpg")
    parts = dict.fromkeys(("text_encoder", "diffusion_model", "vae", "tokenizer", "vision"), Path("not looked at"))
    config = tiny_data.write_config(tmp_path, "omnigen2", parts, edits=False, data__cache="nothing")
    run("cache", config)
    store = Store(tmp_path / "prepared")
    counts = store.counts()
    assert (counts["usable"], counts["problems"]) == (len(tiny_data.SIZES), {"same_name": 1})
    places = [place for part in split_rows(store, 2) for place in part]
    assert sorted(place.row.key for place in places) == [f"{index:02d}" for index in range(len(tiny_data.SIZES))]
    assert "another car" not in {place.row.caption for place in places}


@pytest.mark.parametrize(("small", "batch_size"), [(1, 8), (3, 4), (5, 4)])
def test_samples_of_rare_sizes_are_drawn_as_often_as_others(small: int, batch_size: int) -> None:
    """In as many epochs as samples fill a batch, everything is seen alike often, and nothing is left out before."""
    row = Row("", (64, 64), "", False, 50.0)
    places = [Place(Path(f"{index // 7}"), index, row) for index in range(40)]
    places += [Place(Path("9"), 100 + index, replace(row, size=(32, 128))) for index in range(small)]
    batches = StoreBatches(places, [], None, Share(batch_size, 1), 0, 1)  # type: ignore[arg-type]
    steps = batch_size * len(places) // batch_size
    chosen = [batches.places(step) for step in range(steps)]
    counts = Counter(address for step in chosen for address in step)
    assert set(counts.values()) == {batch_size}
    assert counts.keys() == {(place.shard, place.index) for place in places}
    assert all(len({index >= 100 for _, index in step}) == 1 for step in chosen)
    # Out of order, as a run that goes on, and as any process.
    again = StoreBatches(places, [], None, Share(batch_size, 1), 0, 1)  # type: ignore[arg-type]
    assert [again.places(step) for step in reversed(range(steps))] == chosen[::-1]
    assert sum(group.addresses.nbytes for group in batches._groups) == 8 * len(places)


def test_stage_2_starts_from_a_finished_stage_1(weights: dict, tmp_path: Path) -> None:
    tiny_data.write_images(tmp_path)
    config = tiny_data.write_config(tmp_path, "omnigen2", weights["omnigen2"], edits=False, stage1__loop__steps=2)
    run("cache", config)
    run("stage1", config)
    tiny_data.write_config(tmp_path, "omnigen2", weights["omnigen2"], edits=False, stage1__loop__steps=3)
    with pytest.raises(
        SystemExit, match=r"run stage1 to its end, or set stage1.loop.steps to 2 .*stage1 has 2 of its 3 steps"
    ):
        run("stage2", config)


def test_sheets_are_drawn_of_few_samples_and_in_small_batches(
    weights: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All five held-out square samples are measured, two or three at a time, and four are drawn."""
    tiny_data.write_images(tmp_path)
    for index, size in enumerate(tiny_data.SIZES):
        if size[0] != size[1]:
            Image.new("RGB", (64, 64)).save(tmp_path / f"images/{index:02d}.png")
            tiny_data.save_depth(tmp_path / f"depth/{index:02d}.npz", np.full((32, 32), 3.0))
    changes = {"data__validation_samples": 5, "stage1__loop__steps": 1, "stage2__loop__steps": 1}
    config = tiny_data.write_config(tmp_path, "omnigen2", weights["omnigen2"], edits=False, **changes)
    for command in ("cache", "stage1"):
        run(command, config)
    sizes: list[int] = []
    velocity = OmniGen2Base.velocity

    def counted(self: OmniGen2Base, latent: torch.Tensor, *rest: object) -> torch.Tensor:
        if not torch.is_grad_enabled():
            sizes.append(len(latent))
        return velocity(self, latent, *rest)

    monkeypatch.setattr(OmniGen2Base, "velocity", counted)
    for module in (loop, sheets):
        monkeypatch.setattr(module, "SHEET_ROWS", 4)
    run("stage2", config)
    assert Counter(sizes) == {2: 3 + 2 * IMAGE_STEPS, 3: 3 + 2 * IMAGE_STEPS}
    picture = Image.open(tmp_path / "runs/stage2/sheets/0000001.png")
    assert picture.height == 4 * (64 + 2 * GUTTER_PX)
    figures = next(entry["validation"] for entry in log(config, "stage2") if "validation" in entry)
    depths = {"abs_rel", "delta1", "abs_rel_sampled", "delta1_sampled"}
    assert figures.keys() == {*depths, "flow", "flow_shuffled_depth", "flow_without_depth"}
    # True image, true depth, its mean, one sampled scene, and the image drawn from that.
    assert picture.width == 5 * (64 + 2 * GUTTER_PX)


def test_problems_can_be_refused(weights: dict, tmp_path: Path) -> None:
    tiny_data.write_images(tmp_path)
    tiny_data.add_bad_images(tmp_path)
    config = tiny_data.write_config(tmp_path, "omnigen2", weights["omnigen2"], edits=False, data__problems="refuse")
    with pytest.raises(
        SystemExit, match=r"repair the samples that .*problems.jsonl names .*: 10 of them cannot be used"
    ):
        run("cache", config)
    with pytest.raises(SystemExit, match="not prepared to the end"):
        run("stage1", config)

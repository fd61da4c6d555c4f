"""The commands of a training from scratch: from a config file to an exported folder."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from sf_model.backbones.mini import DIT_FILE, MLLM_FILE, SPATIALFUSION_FILE, TOKENIZER_DIR, VAE_FILE, load_base_weights
from sf_model.checkpoint import load_checkpoint
from sf_model.evaluation.sampling import SystemSampler
from sf_model.training import __main__ as command_line
from sf_model.training.bases.prompts import load_tokenizer
from sf_model.training.export import export_mini, load_exported
from sf_model.training.loop import Trainer
from sf_model.training.run import export_run, make_tokenizer, train_all, train_stage
from sf_model.training.run_record import RunError
from sf_model.training.run_state import AVERAGE, OPTIMISER, TRAINED, latest_state, load_average
from sf_model.training.settings import STAGE_NAMES, TrainingSettings
from sf_model.training.stages.stage import LAYOUT
from tests.unit.mini_training import DUMMY, MINI_CONFIG, build_stage, changed, smoke_settings

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "training.md"
FIRST, LAST = "state-0000001", "state-0000002"


class KilledError(Exception):
    """In place of a signal."""


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr("sys.argv", ["training", *map(str, arguments)])
    command_line.main()


def editing_settings(runs: Path) -> TrainingSettings:
    """The smoke run with a state after every step. Every second step of the last stages is an edit, and the predictor
    learns in both.
    """
    settings = smoke_settings(runs)
    for name in STAGE_NAMES:
        settings = changed(settings, **{f"{name}__loop__save_every": 1})
    settings = changed(settings, stage2__fusion__freeze_predictor=False)
    return changed(settings, stage1__world__edits=0.5, stage2__world__edits=0.5)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingSettings, Path]:
    """A training that nothing interrupted, and its exported folder."""
    folder = tmp_path_factory.mktemp("finished")
    settings = editing_settings(folder / "runs")
    train_all(settings, folder / "out", "")
    return settings, folder / "out"


def state_files(settings: TrainingSettings, stage: str, state: str = LAST) -> dict[str, dict[str, torch.Tensor]]:
    folder = Path(settings.runs) / stage / state
    return {name: safetensors.torch.load_file(folder / name) for name in (TRAINED, AVERAGE, OPTIMISER)}


def log_of(settings: TrainingSettings, stage: str) -> list[dict]:
    path = Path(settings.runs) / stage / "log.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_guide_s_command_trains_the_mini_from_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is written there, with --smoke: what it exports loads strictly, and measures."""
    guide = GUIDE.read_text(encoding="utf-8")
    found = re.findall(r"^python -m sf_model\.training (all --config configs/mini\.yaml .+)$", guide, re.MULTILINE)
    (line,) = found
    words = line.replace("configs/mini.yaml", str(MINI_CONFIG)).replace("my_mini", str(tmp_path / "out"))
    command(monkeypatch, *words.split(), "--smoke", "--runs", tmp_path / "runs")
    assert load_exported(tmp_path / "out").base.sizes == replace(DUMMY, tokenizer_captions=0)
    checkpoint = load_checkpoint(tmp_path / "out" / SPATIALFUSION_FILE)
    assert list(checkpoint.training["stages"]) == list(STAGE_NAMES)
    assert checkpoint.config == DUMMY.spatialfusion
    sampler = SystemSampler(tmp_path / "out", steps=1)
    assert sampler.takes_source and sampler.samples_depth and sampler.image_size == DUMMY.image_size
    assert sampler.scaffold(["a red car"], [0], 0).depth.shape == (1, 32, 32)


def test_a_training_killed_within_and_between_its_stages_equals_an_uninterrupted_one(
    finished: tuple[TrainingSettings, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After every state that it saves; each start goes on with the stage that is not finished."""
    whole, exported = finished
    settings = editing_settings(tmp_path / "runs")
    saved: list[tuple[str, int]] = []
    save = Trainer._save

    def save_then_die(self: Trainer) -> None:
        save(self)
        saved.append((self.run_dir.name, self.step))
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save", save_then_die)
        for _ in range(2 * len(STAGE_NAMES)):
            with pytest.raises(KilledError):
                train_all(settings, tmp_path / "out", "")
    assert saved == [(name, step) for name in STAGE_NAMES for step in (1, 2)]
    assert not (tmp_path / "out").exists()
    train_all(settings, tmp_path / "out", "")
    for name in STAGE_NAMES:
        expected = state_files(whole, name)
        for file, tensors in state_files(settings, name).items():
            assert tensors.keys() == expected[file].keys()
            assert all(torch.equal(value, expected[file][key]) for key, value in tensors.items()), (name, file)
        assert [entry["step"] for entry in log_of(settings, name) if "loss" in entry] == [1, 2]
    for file in (MLLM_FILE, DIT_FILE, VAE_FILE, SPATIALFUSION_FILE):
        tensors, expected = (safetensors.torch.load_file(folder / file) for folder in (tmp_path / "out", exported))
        assert tensors.keys() == expected.keys()
        assert all(torch.equal(value, expected[key]) for key, value in tensors.items()), file


def test_every_stage_logs_and_draws(finished: tuple[TrainingSettings, Path]) -> None:
    settings, _ = finished
    depth = {"abs_rel", "delta1", "object_delta1"}
    sampled = {f"{name}{ending}" for name in depth for ending in ("_sampled", "_true_layout")}
    losses = {"layout", "answer", "register_values_shown", "register_states_shown"}
    figures = losses | {"named", "placed", "turned", "counted"}
    measured = {
        "autoencoder": {"psnr", "latent_std"},
        "language": figures | {f"{name}_fixed" for name in figures},
        "image": {"flow_without_depth"},
        "source": depth | {"recognised", "named", "placed", "turned", "counted"},
        "stage1": depth | sampled,
        "stage2": depth | sampled | {"flow", "flow_shuffled_depth", "flow_without_depth"},
    }
    for name in STAGE_NAMES:
        log = log_of(settings, name)
        assert [entry["step"] for entry in log] == [1, 2, 2]
        assert all(math.isfinite(entry["loss"]) and entry["gradient_norm"] > 0 for entry in log[:2])
        assert log[2]["validation"].keys() == measured[name]
        sheet = Path(settings.runs) / name / "sheets/0000002.png"
        assert sheet.exists() == (name != "language")
        assert not sheet.exists() or sheet.stat().st_size > 1000


def test_what_is_exported_are_the_averages_of_all_stages(finished: tuple[TrainingSettings, Path]) -> None:
    settings, folder = finished
    checkpoint = load_checkpoint(folder / SPATIALFUSION_FILE)
    stage2 = checkpoint.training["stages"]["stage2"]
    assert (stage2["steps"], stage2["batch_size"], stage2["seed"]) == (2, 2, 0)
    assert stage2["commits"] and stage2["commits"][0] in checkpoint.base_revision
    averages = {name: load_average(Path(settings.runs) / name / LAST) for name in STAGE_NAMES}
    decoder, transformer = load_base_weights(folder / MLLM_FILE), load_base_weights(folder / DIT_FILE)
    for key, value in averages["language"].items():
        if key.startswith("heads."):
            continue
        if key.startswith(LAYOUT):
            assert torch.equal(checkpoint.state_dict[key.removeprefix("system.predictor.")], value.bfloat16()), key
            continue
        assert torch.equal(decoder.state_dict[key.removeprefix("system.base.text_encoder.")], value.bfloat16()), key
    for key, value in averages["stage2"].items():
        part, _, name = key.removeprefix("system.").partition(".")
        stored = {
            "predictor": checkpoint.predictor_state(),
            "adapter": checkpoint.adapter_state(),
            "base": {f"transformer.{name}": value for name, value in transformer.state_dict.items()},
        }[part]
        assert torch.equal(stored[name], value.bfloat16()), key
    for key, value in averages["source"].items():
        # What sees sources is as its own stage left it.
        assert torch.equal(checkpoint.state_dict[key.removeprefix("system.predictor.")], value.bfloat16()), key
    trained = state_files(settings, "stage2")[TRAINED]
    assert any(not torch.equal(trained[key], value) for key, value in averages["stage2"].items())
    assert transformer.revision == decoder.revision == checkpoint.base_revision
    assert transformer.config["hidden_size"] == DUMMY.transformer.hidden_size
    assert "lm_head.weight" not in decoder.state_dict
    assert load_tokenizer(folder / TOKENIZER_DIR)("a car")["input_ids"]


def test_edits_train_what_reads_the_source(finished: tuple[TrainingSettings, Path]) -> None:
    settings, folder = finished
    first, second = (state_files(settings, name)[AVERAGE] for name in ("stage1", "stage2"))
    moments = state_files(settings, "stage1")[OPTIMISER]
    reads = "system.predictor.source_encoder.project.weight"
    assert moments[f"{reads}|exp_avg"].any() and not torch.equal(first[reads], second[reads])
    assert not any("monocular_depth" in name for name in (*first, *second))
    image = state_files(settings, "image")[AVERAGE]
    references = [name for name in second if "ref_image_" in name]
    assert references and not set(references) & image.keys()
    assert any(state_files(settings, "stage2")[OPTIMISER][f"{name}|exp_avg"].any() for name in references)
    assert SystemSampler(folder).takes_source


def test_a_stage_needs_those_before_it(
    finished: tuple[TrainingSettings, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = finished
    common = ("--config", MINI_CONFIG, "--smoke", "--runs")
    shutil.copytree(Path(whole.runs) / TOKENIZER_DIR, tmp_path / "runs" / TOKENIZER_DIR)
    with pytest.raises(SystemExit, match=r"run language first: .*runs/language holds no trained state"):
        command(monkeypatch, "stage1", *common, tmp_path / "runs")
    with pytest.raises(SystemExit, match=r"run autoencoder first"):
        command(monkeypatch, "export", *common, tmp_path / "runs", "--output", tmp_path / "out")
    for name in ("autoencoder", "language", "image"):
        shutil.copytree(Path(whole.runs) / name, tmp_path / "runs" / name)
    shutil.rmtree(tmp_path / "runs/image" / LAST)
    with pytest.raises(SystemExit, match=r"run image to its end, or set image.loop.steps to 1 .* has 1 of its 2 steps"):
        command(monkeypatch, "export", *common, tmp_path / "runs", "--output", tmp_path / "out")
    # The encoder of sources uses nothing that was trained before it.
    command(monkeypatch, "source", *common, tmp_path / "other")
    assert latest_state(tmp_path / "other" / "source").name == LAST


def test_a_finished_stage_has_nothing_left_to_do_and_refuses_other_settings(
    finished: tuple[TrainingSettings, Path], tmp_path: Path
) -> None:
    """The runs were moved meanwhile, all together."""
    whole, _ = finished
    settings = replace(whole, runs=str(shutil.copytree(whole.runs, tmp_path / "runs")))
    before = state_files(settings, "stage2")
    train_stage(settings, "stage2")
    with pytest.raises(RunError, match=r"give the settings .*loop.learning_rate: 0.001 before, 1.0 now"):
        train_stage(changed(settings, stage2__loop__learning_rate=1.0), "stage2")
    with pytest.raises(RunError, match=r"stage.fusion: .*'depth_weight': 0.5.*'depth_weight': 0.7"):
        train_stage(changed(settings, stage2__fusion__depth_weight=0.7), "stage2")
    after = state_files(settings, "stage2")[TRAINED]
    assert all(torch.equal(value, after[key]) for key, value in before[TRAINED].items())


def test_a_stage_can_start_from_runs_elsewhere(finished: tuple[TrainingSettings, Path], tmp_path: Path) -> None:
    """With no rate of learning it stays what it started from; its vocabulary is theirs."""
    whole, _ = finished
    starts = {name: str(Path(whole.runs) / name) for name in STAGE_NAMES[:-1]}
    settings = replace(whole, runs=str(tmp_path / "runs"), starts=starts)
    settings = changed(
        settings, stage2__loop__learning_rate=0.0, stage2__loop__matrix_rate=None, system__tokenizer_captions=1
    )
    train_stage(settings, "stage2")
    started, trained = load_average(Path(starts["stage1"]) / LAST), state_files(settings, "stage2")[TRAINED]
    assert started and all(torch.equal(value, trained[key]) for key, value in started.items())
    image = load_average(Path(starts["image"]) / LAST)
    assert image and all(torch.equal(value, trained[key]) for key, value in image.items())
    vocabularies = [Path(runs) / TOKENIZER_DIR / "vocab.json" for runs in (whole.runs, settings.runs)]
    assert vocabularies[0].read_bytes() == vocabularies[1].read_bytes()
    # One that is there already must be the same.
    vocabularies[1].write_bytes(b"{}")
    with pytest.raises(RunError, match="the vocabulary in .*tokenizer differs from"):
        make_tokenizer(settings)


def test_an_earlier_stage_is_exported_by_its_name(finished: tuple[TrainingSettings, Path], tmp_path: Path) -> None:
    settings, whole = finished
    export_run(settings, "image", tmp_path / "base", "")
    checkpoint = load_checkpoint(tmp_path / "base" / SPATIALFUSION_FILE)
    assert list(checkpoint.training["stages"]) == ["autoencoder", "language", "image"]
    assert not SystemSampler(tmp_path / "base").reads_depth and SystemSampler(whole).reads_depth
    first, second = (load_base_weights(folder / DIT_FILE).state_dict for folder in (tmp_path / "base", whole))
    assert any(not torch.equal(value, second[name]) for name, value in first.items())


def test_a_predictor_that_met_no_noisy_depth_offers_no_flow(tokenizer_dir: Path, tmp_path: Path) -> None:
    stage = build_stage("stage2", tokenizer_dir, depth__flow=0.0)
    export_mini(stage.system, tokenizer_dir, tmp_path, "test", {})
    assert load_checkpoint(tmp_path / SPATIALFUSION_FILE).config == replace(DUMMY.spatialfusion, depth_flow=None)
    sampler = SystemSampler(tmp_path)
    assert not sampler.samples_depth
    # The scaffold is then the mean.
    assert torch.equal(sampler.scaffold(["a car"], [0], 0).depth, sampler.predict_depth(["a car"]).depth)


def test_what_cannot_be_asked_for_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    omnigen2 = MINI_CONFIG.with_name("omnigen2.yaml")
    for arguments, message in (
        (("all", "--config", omnigen2, "--smoke", "--output", tmp_path), "--smoke is for a base that is trained from"),
        (("image", "--config", omnigen2), "the config has no stage 'image'; it has stage1, stage2"),
        (("cache", "--config", MINI_CONFIG), "this config's data is the synthetic world, which needs none"),
        (("label", "--config", MINI_CONFIG), "this config's data is the synthetic world, which has its depth"),
        (("stage1", "--config", tmp_path / "none.yaml"), "none.yaml: no such config file"),
    ):
        with pytest.raises(SystemExit, match=message):
            command(monkeypatch, *arguments)

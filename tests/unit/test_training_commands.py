"""The commands of the Mini's training, from tokenizer to export."""

import argparse
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from sf_model.training.arguments import image_sizes
from sf_model.training.starting_weights import check_source_encoder
from sf_model.training.tokenizer import load_tokenizer

from sf_model.backbones.mini import DIT_FILE, MLLM_FILE, SPATIALFUSION_FILE, TOKENIZER_DIR, load_base_weights
from sf_model.checkpoint import load_checkpoint
from sf_model.models.source_encoder import PixelEncoder
from sf_model.training import __main__ as command_line
from sf_model.training.data.world import WorldBatches
from sf_model.training.export import load_exported, part_state_dict
from sf_model.training.run_state import latest_state
from sf_model.training.system import SpatialFusionSystem
from tests.unit.mini_training import DUMMY, data_config

# As much as edits ask of an encoder of source images.
LEARN_TO_SEE = ("--steps", "100", "--batch-size", "8", "--learning-rate", "3e-3", "--ema-decay", "0.9")
LEARN_TO_SEE += ("--sheet-every", "100")


@pytest.mark.parametrize("text", ["", "64,", "100", "0", "-64", "big"])
def test_image_sizes_that_cut_patches_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="multiples of 8"):
        image_sizes(text)


def test_an_encoder_that_unlearned_trains_no_edits(tokenizer_dir: Path) -> None:
    """Once it had learned; later stages have moved its weights since."""
    system = SpatialFusionSystem(DUMMY.with_source(at_queries=True), 0)
    encoder = system.predictor.source_encoder
    assert isinstance(encoder, PixelEncoder)
    torch.nn.init.normal_(encoder.monocular_depth.state_out.weight, generator=torch.Generator().manual_seed(0))
    batch = WorldBatches(data_config({"free": 1.0}), tokenizer_dir)[0]
    edits = argparse.Namespace(edits=0.5)
    with pytest.raises(SystemExit, match="no trained encoder .*a delta1 of 0"):
        check_source_encoder(edits, system, batch)
    check_source_encoder(argparse.Namespace(edits=0.0), system, batch)


def test_the_guide_s_commands_for_the_mini(
    tmp_path: Path, tokenizer_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps of each, at dummy size, as they are written there."""
    guide = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8").replace("\\\n", "")
    found = re.findall(r"^python -m sf_model\.training (.+)$", guide, re.MULTILINE)
    # With --config they train beside a real base.
    commands = [command for command in found if "--config" not in command]
    assert [command.split()[0] for command in commands[:2] + commands[-1:]] == ["tokenizer", "mllm", "export"]
    runs = tmp_path / "runs"
    shutil.copytree(tokenizer_dir, runs / "dummy" / TOKENIZER_DIR)
    for command in commands[1:]:
        words = command.split("#")[0].replace("runs/mini", f"{runs}/dummy").replace("my_mini", str(tmp_path / "out"))
        arguments = [*words.split(), "--size", "dummy", "--runs", str(runs)]
        if "--steps" in arguments:
            arguments += ["--steps", "2", "--batch-size", "4", "--workers", "0", "--sheet-every", "2"]
        if arguments[0] == "source":
            arguments += LEARN_TO_SEE
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
    train("source", parts[1], *LEARN_TO_SEE)
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


def _forget(path: Path, part: str) -> None:
    """Take the tensors with `part` in their names out of a file."""
    tensors = {name: value for name, value in safetensors.torch.load_file(path).items() if part not in name}
    safetensors.torch.save_file(tensors, path)

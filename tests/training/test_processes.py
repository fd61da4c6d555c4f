"""Two processes on the CPU give what one gives; accelerate's configs are what accelerate reads."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from sf_model.training.controls import plain_settings
from sf_model.training.export import load_exported
from sf_model.training.settings import STAGE_NAMES, load_settings, smoke
from tests.training import processes, tiny_bases, tiny_data
from tests.training.processes import launch_environment, run_together, run_until

REPOSITORY = Path(__file__).resolve().parents[2]
FSDP = REPOSITORY / "configs/accelerate/fsdp.yaml"
ACCELERATE = sorted((REPOSITORY / "configs/accelerate").glob("*.yaml"))
# Sums in another order; Adam's first steps enlarge what is left of them where a gradient is all but zero.
TOLERANCE = 2e-4
# Of what starts at zero and has nothing but such steps: 2.03e-4 on an Intel Xeon with AMX, where no other tensor has
# more than 1.7e-5. A gradient that is not shared moves it by all of its norm.
STARTS_AT_ZERO = {"system.adapter.out.weight": 1e-3}
# In bfloat16 gradients are rounded before they are summed, and the first steps of Adam, of what starts at zero or lies
# behind it, have the size of the rate, however small the gradient. 0.032 of such a tensor on an Intel Xeon whose oneDNN
# has no AMX, 0.022 on an AMD EPYC; a gradient that is not shared moves them by all of their norm.
BF16_TOLERANCE = 5e-2
# Two processes of one machine round alike but for kernels that depend on where memory was given to them.
ROUNDING = 1e-5
# Of the run that is killed: enough for a busy machine to see its first state before its last.
STEPS = 12
STAGES = ("stage1", "stage2")


def average_of(config: Path, stage: str, step: int = 4) -> dict[str, torch.Tensor]:
    state = Path(load_settings(config).runs) / stage / f"state-{step:07d}"
    return safetensors.torch.load_file(state / "average.safetensors")


def contents(folder: Path) -> dict[str, dict[str, Any]]:
    """By name, what is in the files that hold tensors or arrays; {} for the others."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".npz":
            found[path.name] = {name: value.tolist() for name, value in np.load(path).items()}
        elif path.suffix == ".safetensors":
            tensors = safetensors.torch.load_file(path)
            found[path.name] = {name: value.tolist() for name, value in tensors.items()}
        elif path.name == "failed.jsonl":
            found[path.name] = {"failed": path.read_text(encoding="utf-8")}
        else:
            found[path.name] = {}
    return found


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        error = (found[name] - value).norm() / value.norm().clamp_min(1e-6)
        assert error < max(tolerance, STARTS_AT_ZERO.get(name, 0.0)), f"{name}: {error}"


@pytest.mark.parametrize("base", ["omnigen2", "qwen_image"])
@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_two_processes_killed_on_the_way_equal_one(mode: str, base: str, tmp_path: Path) -> None:
    """The same global batch of 4: as 2 x 2 in one process, and as 2 in each of two, with whole or shared parameters,
    which are killed in the middle of each stage and started again.

    Shared by accelerate, as the config that comes with the pack says, in bf16, which rounds alike with parameters in
    shares: OmniGen2 as a LoRA without an MLLM in memory, Qwen-Image in full with its MLLM.
    """
    shared = mode == "fsdp"
    changes: dict[str, Any] = {f"{stage}__loop__batch_size": 4 for stage in STAGES}
    changes |= {f"{stage}__loop__save_every": 1 for stage in STAGES}
    if shared:
        changes |= {f"{stage}__loop__mixed_precision": "bf16" for stage in STAGES}
        changes |= {"weights__dtype": "bf16", "stage2__loop__gradient_checkpointing": True}
        if base == "omnigen2":
            changes |= {"data__cache": "latents+prompts", "stage2__fusion__lora_rank": 2}
    tiny_data.write_images(tmp_path, edits=not shared)
    weights = tiny_bases.write_weights(base, tmp_path / "weights")
    config = tiny_data.write_config(tmp_path, base, weights, edits=not shared, **changes)
    values = yaml.safe_load(config.read_text(encoding="utf-8"))
    averages = {}
    for count in (1, 2):
        values["runs"] = str(tmp_path / f"runs{count}")
        config.write_text(yaml.safe_dump(values), encoding="utf-8")
        calls = {name: [name, "--config", str(config)] for name in ("cache", *STAGES)}
        if count == 1:
            run_together(1, list(calls.values()))
        else:
            environment = launch_environment(FSDP) if shared else {}
            for stage in STAGES:
                run = tmp_path / "runs2" / stage
                run_until(lambda run=run: any(run.glob("state-*1*")), 2, [calls[stage]], **environment)
                assert not (run / "state-0000004").exists()
                run_together(2, [calls[stage]], **environment)
        averages[count] = {stage: average_of(config, stage) for stage in STAGES}
    tolerance = BF16_TOLERANCE if shared else TOLERANCE
    for stage in STAGES:
        assert_close(averages[2][stage], averages[1][stage], tolerance)


def _end_by_a_signal_once(rank: int, world: int, port: int, environment: dict[str, str], calls: Any, out: Any) -> None:
    """In place of the work of a group whose only call is [path, result]."""
    path, result = calls[0]
    if rank == 0 and not Path(path).exists():
        Path(path).touch()
        os.abort()
    out.send(result)


@pytest.mark.parametrize("shared", [True, False])
def test_a_group_that_a_signal_ended_starts_again_once(
    shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But no other, and no error is lost."""
    monkeypatch.setattr(processes, "_work", _end_by_a_signal_once)
    environment = {processes.USE_FSDP: "true"} if shared else {}
    mark = tmp_path / "mark"
    if shared:
        with pytest.warns(UserWarning, match="died with exit code -6"):
            run_together(2, [[str(mark), ""]], **environment)
    else:
        with pytest.raises(AssertionError, match="died with exit code -6"):
            run_together(2, [[str(mark), ""]], **environment)
    with pytest.raises(AssertionError, match="an error"):
        run_together(2, [[str(mark), "an error"]], **environment)


def test_processes_count_what_they_left_out_together(tmp_path: Path) -> None:
    """Three shards of at most three samples, of which each process would write its own; there is room for none."""
    tiny_data.write_images(tmp_path)
    parts = dict.fromkeys(("text_encoder", "diffusion_model", "vae", "tokenizer", "vision"), Path("not looked at"))
    changes = {"data__cache": "nothing", "data__max_gb": 0.0}
    config = tiny_data.write_config(tmp_path, "omnigen2", parts, edits=False, **changes)
    run_together(2, [["cache", "--config", str(config)]])
    counts = json.loads((tmp_path / "prepared/complete.json").read_text(encoding="utf-8"))
    assert (counts["usable"], counts["left_out_for_size"]) == (0, len(tiny_data.SIZES))


def test_two_processes_train_the_mini_as_one_does(tmp_path: Path) -> None:
    """Every stage, with steps of edits, which reach parameters that others do not; one process exports."""
    averages = {}
    for count in (1, 2):
        settings = smoke(load_settings(REPOSITORY / "configs/mini.yaml"))
        values = plain_settings(replace(settings, runs=str(tmp_path / f"runs{count}")))
        for name in STAGE_NAMES:
            values[name]["loop"] |= {"batch_size": 4, "micro_batch": 2}
            if name in STAGES:
                values[name]["world"]["edits"] = 0.5
        config = tmp_path / f"{count}.yaml"
        config.write_text(yaml.safe_dump(values), encoding="utf-8")
        run_together(count, [["all", "--config", str(config), "--output", str(tmp_path / f"out{count}")]])
        averages[count] = {name: average_of(config, name, 2) for name in STAGE_NAMES}
        load_exported(tmp_path / f"out{count}")
    for name in STAGE_NAMES:
        assert_close(averages[2][name], averages[1][name], TOLERANCE)


@pytest.mark.parametrize(("stage", "killed_at"), [("stage1", 1), ("stage2", 1), ("stage2", 3)])
def test_a_run_killed_with_sigkill_resumes_exactly(stage: str, killed_at: int, tmp_path: Path) -> None:
    """At whatever it is doing soon after that step's state appeared, or while it is being written."""
    tiny_data.write_images(tmp_path)
    weights = tiny_bases.write_weights("omnigen2", tmp_path / "weights")
    stages = {name: {"steps": STEPS, "save_every": 1} for name in STAGES}
    changes = {f"{name}__loop__{field}": value for name, values in stages.items() for field, value in values.items()}
    config = tiny_data.write_config(tmp_path, "omnigen2", weights, edits=False, stage2__fusion__lora_rank=2, **changes)
    calls = {name: [name, "--config", str(config)] for name in ("cache", *STAGES)}
    before = ["cache"] if stage == "stage1" else ["cache", "stage1"]
    run_together(1, [calls[name] for name in (*before, stage)])
    expected = average_of(config, stage, STEPS)
    run = tmp_path / "runs" / stage
    shutil.rmtree(run)
    run_until(lambda: any(run.glob(f"state-{killed_at:07d}*")), 1, [calls[stage]])
    assert not (run / f"state-{STEPS:07d}").exists()
    run_together(1, [calls[stage]])
    assert_close(average_of(config, stage, STEPS), expected, ROUNDING)
    log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [entry["step"] for entry in log if "loss" in entry] == list(range(1, STEPS + 1))


def test_labels_and_caches_killed_with_sigkill_are_made_whole_by_two_processes(tmp_path: Path) -> None:
    """In the middle of a file, or between two: what another start makes, in two processes, is what one process makes
    undisturbed. Two images cannot be labelled."""
    tiny_data.write_images(tmp_path, times=6)
    for name in ("20", "37"):
        (tmp_path / f"images/{name}.png").write_bytes(b"no image")
    weights = tiny_bases.write_weights("omnigen2", tmp_path / "weights")
    teacher = tmp_path / "teacher"
    for part in tiny_bases.depth_anything():
        part.save_pretrained(teacher)
    made = {}
    for name in ("whole", "killed"):
        labels, prepared = tmp_path / name / "labels", tmp_path / name / "prepared"
        changes = {"data__depth": str(labels), "data__prepared": str(prepared), "data__samples_per_shard": 1}
        config = tiny_data.write_config(
            tmp_path, "omnigen2", weights, edits=False, label__teacher=str(teacher), **changes
        )
        for command, folder in (("label", labels), ("cache", prepared)):
            call = [command, "--config", str(config)]
            if name == "killed":
                run_until(lambda folder=folder: folder.is_dir() and len(list(folder.iterdir())) > 3, 1, [call])
                assert len(list(folder.iterdir())) < len(made["whole", command])
            run_together(2 if name == "killed" else 1, [call])
            made[name, command] = contents(folder)
    for command in ("label", "cache"):
        assert made["killed", command] == made["whole", command]


@pytest.mark.parametrize("path", ACCELERATE, ids=lambda path: path.stem)
def test_accelerate_reads_its_configs(path: Path) -> None:
    config = load_config_from_file(str(path))
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert config.distributed_type.value == values["distributed_type"]
    assert config.mixed_precision == "bf16"
    if "fsdp_config" in values:
        assert values["fsdp_config"]["fsdp_version"] == 2

"""The controls' trainings: every row has the same chance, and no config is one that training would refuse."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from sf_model.evaluation.sampling import SystemSampler
from sf_model.training.controls import BASE_STAGES, plain_settings, planned, train_all
from sf_model.training.run import export_run, train_stage
from sf_model.training.settings import StageSettings, settings_from_dict
from tests.unit.mini_training import mini_settings, smoke_settings

ROOT = Path("runs/controls")


def flat(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Nested fields by their paths."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{path}{name}.") if isinstance(value, dict) else {f"{path}{name}": value}
    return found


def differing(first: StageSettings, second: StageSettings) -> set[str]:
    ours, theirs = flat(asdict(first)), flat(asdict(second))
    return {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}


def test_data_only_and_spatialfusion_differ_in_their_depth_alone() -> None:
    runs = {run.name: run for run in planned(mini_settings(), ROOT, [100, 200], [0, 1])}
    assert len(runs) == 2 + 2 * 2 * 2
    for scenes in (100, 200):
        for seed in (0, 1):
            ours, control = runs[f"fusion-{scenes}-{seed}"].settings, runs[f"data-only-{scenes}-{seed}"].settings
            assert differing(ours.stage2, control.stage2) == {"diffusion.depth_dropout", "fusion.true_depth"}
            assert ours.starts == control.starts
            assert (ours.stage2.world.scenes, ours.stage2.world.edits, ours.stage2.loop.seed) == (scenes, 0.0, seed)
            assert control.stage2.diffusion.depth_dropout == 1.0 and ours.stage2.diffusion.depth_dropout < 0.5
            assert ours.stage2.fusion.freeze_predictor and control.stage2.fusion.freeze_predictor
            # As long, and as fast, as the config says.
            assert ours.stage2.loop == replace(mini_settings().stage2.loop, seed=seed)


def test_the_base_sees_web_captions_alone_and_the_predictor_the_same_scenes() -> None:
    settings = mini_settings()
    assert settings.image.world.captions.plain == 1.0
    depth, fusion, control = planned(settings, ROOT, [100], [0])
    for run in (depth, fusion, control):
        assert all(run.settings.starts[name] == str(Path(settings.runs) / name) for name in BASE_STAGES)
    assert depth.stage == "stage1" and depth.settings.stage1.world.scenes == fusion.settings.stage2.world.scenes
    assert depth.settings.stage2 is None
    for run in (fusion, control):
        assert run.settings.starts["stage1"] == str(ROOT / "depth-100" / "stage1") and run.after == depth.name


def test_a_base_elsewhere_stays_there() -> None:
    settings = replace(mini_settings(), starts={"image": "other_runs/image"})
    for run in planned(settings, ROOT, [100], [0]):
        assert run.settings.starts["image"] == "other_runs/image"
        assert run.settings.starts["language"] == str(Path(settings.runs) / "language")


def test_every_run_s_config_is_read_as_it_was_planned() -> None:
    for run in planned(mini_settings(), ROOT, [100, 200], [0, 1]):
        assert settings_from_dict(yaml.safe_load(yaml.safe_dump(plain_settings(run.settings)))) == run.settings


@pytest.mark.parametrize("at_once", [1, 2])
def test_runs_wait_for_what_they_start_from(at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished: list[str] = []
    monkeypatch.setattr("sf_model.training.controls.train", lambda run, *_: finished.append(run.name))
    runs = planned(mini_settings(), tmp_path, [100], [0, 1])
    train_all(runs, tmp_path, tmp_path / "tokenizer", at_once)
    assert sorted(finished) == sorted(run.name for run in runs)
    for run in runs:
        assert run.after is None or finished.index(run.after) < finished.index(run.name)


def test_the_controls_of_a_tiny_base_train_and_draw(tmp_path: Path) -> None:
    """On eight scenes. Only SpatialFusion's row reads depth."""
    settings = smoke_settings(tmp_path / "base")
    for name in BASE_STAGES:
        train_stage(settings, name)
    exported: dict[str, SystemSampler] = {}
    for run in planned(settings, tmp_path / "controls", [8], [0]):
        train_stage(run.settings, run.stage)
        if run.stage == "stage2":
            export_run(run.settings, run.stage, tmp_path / "exported" / run.name, "")
            exported[run.name] = SystemSampler(tmp_path / "exported" / run.name)
    assert exported["fusion-8-0"].reads_depth and not exported["data-only-8-0"].reads_depth

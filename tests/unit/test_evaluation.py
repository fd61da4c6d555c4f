"""Depth measures and baselines by hand, and the evaluation command on an exported dummy system."""

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from sf_model.depth import metrics as depth_metrics
from sf_model.evaluation import __main__ as command_line
from sf_model.evaluation.arguments import PUBLISHED_SEED
from sf_model.evaluation.bootstrap import Estimate
from sf_model.evaluation.depth import measures, shown_prediction
from sf_model.evaluation.depth_baselines import fit_baselines
from sf_model.evaluation.sheet import ROWS, SCALE
from sf_model.files.picture_sheet import GUTTER_PX
from sf_model.models.depth_prediction import DepthPrediction
from sf_model.training.export import export_mini, load_exported
from tests.unit.dummy_systems import DUMMY, untrained_system


def test_measures_by_hand() -> None:
    true = torch.tensor([[[1.0, 2.0], [4.0, math.inf]]])
    depth = torch.tensor([[[1.2, 1.0], [4.0, 7.0]]])
    # Relative errors 0.2, 0.5 and 0 over three pixels of surface; factors 1.2, 2 and 1.
    assert depth_metrics.abs_rel(depth, true).item() == pytest.approx(0.7 / 3)
    assert depth_metrics.delta1(depth, true).item() == pytest.approx(2 / 3)
    assert depth_metrics.abs_rel(true, true).item() == 0.0
    assert depth_metrics.delta1(true, true).item() == 1.0


def test_a_surface_taken_for_sky_is_no_hit_and_objects_are_measured_alone() -> None:
    true = torch.tensor([[[1.0, 2.0, 4.0, math.inf]]]).repeat(2, 1, 1)
    validity = torch.tensor([[[1.0, -1.0, 1.0, -1.0]]]).repeat(2, 1, 1)
    log_depth = torch.tensor([[[1.0, 2.0, 8.0, 3.0]]]).log().repeat(2, 1, 1)
    shown = shown_prediction(DepthPrediction(log_depth, validity, validity, torch.tensor([50.0, 50.0])))
    values = measures(shown, true, torch.tensor([[[False, True, True, False]], [[False] * 4]]))
    # The second surface has the right depth and is called sky; the third is twice too far.
    assert values["delta1"].tolist() == pytest.approx([1 / 3, 1 / 3])
    assert values["AbsRel"].tolist() == pytest.approx([1 / 3, 1 / 3])
    assert values["sky right"].tolist() == pytest.approx([3 / 4, 3 / 4])
    assert values["AbsRel of objects"].tolist() == pytest.approx([1 / 2, math.nan], nan_ok=True)
    assert values["delta1 of objects"].tolist() == pytest.approx([0, math.nan], nan_ok=True)


def test_the_constant_baseline_is_the_best_constant() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.exp(torch.randn(3, 8, 8, generator=generator))
    maps[0, :2] = math.inf
    best = fit_baselines(maps).constant_m
    surface = maps[torch.isfinite(maps)]

    def error(constant: float) -> float:
        return ((constant - surface).abs() / surface).mean().item()

    assert all(error(best) <= error(best * factor) for factor in (0.7, 0.9, 0.98, 1.02, 1.1, 1.5))


def test_the_mean_map_is_the_geometric_mean_of_surfaces() -> None:
    maps = torch.tensor([[[1.0, 2.0, math.inf]], [[4.0, math.inf, math.inf]]])
    mean_map = fit_baselines(maps).mean_map_m
    overall = 8.0 ** (1 / 3)
    torch.testing.assert_close(mean_map, torch.tensor([[2.0, 2.0, overall]]))


def test_the_command_measures_an_exported_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    system = untrained_system(tmp_path, DUMMY)
    export_mini(system, tmp_path / "tokenizer", tmp_path, "base-0", {}, dtype=torch.float32)
    loaded = load_exported(tmp_path).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in system.state_dict().items())

    options = ["--weights", str(tmp_path), "--images", "3", "--kinds", "free", "plain", "--output", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["evaluation", "depth", *options])
    command_line.main()
    written = json.loads((tmp_path / "depth.json").read_text(encoding="utf-8"))
    assert written["run"]["seed"] == PUBLISHED_SEED and written["run"]["captions_per_kind"] == 3
    assert written["run"]["kinds"] == ["free", "plain"]
    assert list(written["table"]) == ["free", "plain", "all"]
    rows = written["table"]["free"]
    assert list(rows) == ["mean", "sampled", "constant", "mean map", "empty ground"]
    assert rows["empty ground"]["AbsRel"] is None
    assert rows["sampled"]["AbsRel"] != rows["mean"]["AbsRel"]
    report = (tmp_path / "depth.md").read_text(encoding="utf-8")
    assert f"- commit: {written['run']['commit']}\n" in report and "| free | sampled |" in report
    for row in (row for name, row in rows.items() if name != "empty ground"):
        assert 0 < row["AbsRel"]["low"] <= row["AbsRel"]["mean"] <= row["AbsRel"]["high"] < math.inf
        assert 0 <= row["delta1"]["mean"] <= 1
    # Who knows the camera knows the ground, the sky but behind objects, and nothing of these.
    known = rows["empty ground"]
    assert known["delta1"]["mean"] > 0.5 > rows["constant"]["delta1"]["mean"]
    assert known["delta1 of objects"]["mean"] < known["delta1"]["mean"]
    shown = f"| free | sampled | {Estimate(**rows['sampled']['AbsRel']).text(3)} |"
    assert shown in capsys.readouterr().out

    sheet = tmp_path / "sheet.png"
    monkeypatch.setattr("sys.argv", ["evaluation", "sheet", "--weights", str(tmp_path), "--output", str(sheet)])
    command_line.main()
    captions = capsys.readouterr().out.splitlines()
    assert [line.split(".")[0] for line in captions] == [str(row) for row in range(1, ROWS + 1)]
    cell = SCALE * (DUMMY.image_size + 2 * GUTTER_PX)
    with Image.open(sheet) as image:
        assert image.size == (5 * cell, ROWS * cell)

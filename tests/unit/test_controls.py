"""The controls' trainings: every row has the same chance, and no command is one that training would refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from sf_model.training.arguments import build_parser

from sf_model.training.controls import Run, command_of, planned, train_all
from sf_model.training.settings import MIXTURES

STEPS = {"base": 7, "stage1": 5, "stage2": 3}
# What makes a row that row.
ITS_OWN = {"runs", "part", "true_depth", "depth_dropout", "depth_flow", "depth_time_mean"}


def arguments_of(run: Run, runs: list[Run]) -> dict[str, object]:
    """What the training's own parser makes of a run's command."""
    command = command_of(run, Path("runs"), {one.name: one for one in runs})
    return vars(build_parser(None).parse_args(command[3:]))


def test_data_only_and_spatialfusion_differ_in_their_depth_alone() -> None:
    runs = planned([100, 200], [0, 1], STEPS)
    by_name = {run.name: arguments_of(run, runs) for run in runs}
    assert len(by_name) == 1 + 2 + 2 * 2 * 2
    for scenes in (100, 200):
        for seed in (0, 1):
            ours, control = by_name[f"fusion-{scenes}-{seed}"], by_name[f"data-only-{scenes}-{seed}"]
            assert {name for name in ours if ours[name] != control[name]} <= ITS_OWN
            assert ours["part"] == control["part"]
            assert (ours["scenes"], ours["seed"], ours["steps"]) == (scenes, seed, 3)
            assert (control["depth_dropout"], control["freeze_predictor"]) == (1.0, True)
            assert ours["depth_dropout"] < 0.5


def test_the_base_sees_web_captions_alone_and_the_predictor_the_same_scenes() -> None:
    runs = planned([100], [0], STEPS)
    base, depth, fusion, _ = (arguments_of(run, runs) for run in runs)
    assert base["command"] == "base" and (base["plain"], base["view"], base["free"]) == (None, None, None)
    assert MIXTURES["base"] == {"plain": 1.0}
    assert depth["command"] == "stage1" and depth["scenes"] == fusion["scenes"]


@pytest.mark.parametrize("at_once", [1, 2])
def test_runs_wait_for_what_they_start_from(at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished: list[str] = []
    monkeypatch.setattr("sf_model.training.controls.train", lambda run, *_: finished.append(run.name))
    runs = planned([100], [0, 1], STEPS)
    train_all(runs, tmp_path, at_once)
    assert sorted(finished) == sorted(run.name for run in runs)
    for run in runs:
        assert all(finished.index(name) < finished.index(run.name) for name in run.after)


def test_a_base_that_is_there_is_not_trained(tmp_path: Path) -> None:
    runs = planned([100], [0], STEPS, base=tmp_path)
    assert [run.name for run in runs] == ["depth-100", "fusion-100-0", "data-only-100-0"]
    _, fusion, control = (arguments_of(run, runs) for run in runs)
    for run in (fusion, control):
        assert dict(run["part"])["transformer"] == tmp_path
    assert runs[1].after == runs[2].after == ["depth-100"]

"""The training loop on a module of three weights: steps that are left out, averages, logs and states, by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn as nn

from sf_model.training.batch import Batch
from sf_model.training.data.numbered import Share
from sf_model.training.loop import MAX_SKIPPED_IN_A_ROW, Trainer, build_accelerator
from sf_model.training.losses import Losses
from sf_model.training.run_record import RunError
from sf_model.training.run_state import AVERAGE, OPTIMISER, TRAINED, latest_state, load_average, saved_progress
from sf_model.training.settings import LoopSettings
from sf_model.training.sheets import Sheet
from tests.unit.mini_training import loop_settings

Files = dict[str, dict[str, torch.Tensor]]


class Slope(nn.Module):
    """The loss is weight . x, so that x is its gradient; the sheet shows the sum of the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, batch: Batch, pictures: bool = True) -> Losses | Sheet:
        if self.training:
            return {"loss": (self.weight * batch["x"]).sum()}
        return Sheet([], {"sum": self.weight.sum().item()}, 1)


class Rare(Slope):
    """A second weight that only steps with a positive first number reach, as edits reach what reads sources."""

    def __init__(self) -> None:
        super().__init__()
        self.rare = nn.Parameter(torch.ones(2))

    def forward(self, batch: Batch, pictures: bool = True) -> Losses | Sheet:
        result = super().forward(batch, pictures)
        if self.training and batch["x"][0] > 0:
            return {"loss": result["loss"] + self.rare.sum()}
        return result


class Given:
    """The x of every step."""

    share = Share(1, 1)

    def __init__(self, steps: list[list[float]]) -> None:
        self.given = steps

    def steps(self, first: int, last: int, workers: int) -> Iterator[list[Batch]]:
        for x in self.given[first:last]:
            yield [{"x": torch.tensor(x)}]

    def validation(self) -> list[Batch]:
        return [{"x": torch.zeros(3)}]

    def on_device(self, batch: Batch, device: torch.device) -> Batch:
        return {name: value.to(device) for name, value in batch.items()}


def loop_of(steps: int) -> LoopSettings:
    loop = replace(loop_settings(steps), batch_size=1, micro_batch=1, save_every=1, log_every=1, ema_decay=0.5)
    return replace(loop, gradient_clip=10.0, learning_rate=0.1)


def trained(folder: Path, given: list[list[float]], build: type[nn.Module] = Slope) -> Trainer:
    """A trainer after its last step."""
    trainer = Trainer(build(), Given(given), loop_of(len(given)), folder, build_accelerator())
    trainer.train()
    return trainer


def assert_same(found: Files, expected: Files) -> None:
    assert found.keys() == expected.keys()
    for file, tensors in expected.items():
        assert found[file].keys() == tensors.keys(), file
        assert all(torch.equal(value, found[file][name]) for name, value in tensors.items()), file


def log_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def state_of(folder: Path, step: int) -> Files:
    names = (TRAINED, AVERAGE, OPTIMISER)
    return {name: safetensors.torch.load_file(folder / f"state-{step:07d}" / name) for name in names}


GOOD, BAD = [3.0, 0.0, 4.0], [1.0, math.nan, 0.0]


@pytest.mark.parametrize("bad", [BAD, [math.inf, 0.0, 0.0]])
def test_a_step_without_a_finite_gradient_is_left_out_and_counted(bad: list[float], tmp_path: Path) -> None:
    trained(tmp_path, [GOOD, GOOD, bad])
    before, after = state_of(tmp_path, 2), state_of(tmp_path, 3)
    assert_same(after, before)
    assert all(value.isfinite().all() for tensors in after.values() for value in tensors.values())
    assert saved_progress(latest_state(tmp_path)) == {"step": 3, "skipped": 1}
    entries = [entry for entry in log_of(tmp_path) if "loss" in entry]
    assert [entry["skipped_steps"] for entry in entries] == [0, 0, 1]
    assert [entry["gradient_norm"] for entry in entries[:2]] == [5.0, 5.0]
    assert entries[2]["gradient_norm"] is None


def test_a_first_step_that_is_left_out_is_no_step(tmp_path: Path) -> None:
    trained(tmp_path, [BAD])
    found = state_of(tmp_path, 1)
    assert found[OPTIMISER] == {}
    for file in (TRAINED, AVERAGE):
        assert found[file]["weight"].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "given",
    [[GOOD, BAD, GOOD, GOOD], [BAD, GOOD, GOOD, GOOD], [[-1.0, 2.0, 0.0]] * 2 + [GOOD] * 2],
    ids=["left out", "left out at first", "what few steps reach"],
)
def test_a_run_resumed_after_any_step_ends_as_one_that_was_not_interrupted(
    given: list[list[float]], tmp_path: Path
) -> None:
    """Weights, averages, moments and what was left out."""
    trained(tmp_path / "whole", given, Rare)
    expected, progress = state_of(tmp_path / "whole", 4), saved_progress(latest_state(tmp_path / "whole"))
    for step in (1, 2, 3):
        folder = tmp_path / f"resumed after {step}"
        trainer = Trainer(Rare(), Given(given[:step]), loop_of(4), folder, build_accelerator())
        trainer.train()
        trainer = Trainer(Rare(), Given(given), loop_of(4), folder, build_accelerator())
        assert (trainer.step, trainer.skipped) == (step, given[:step].count(BAD))
        trainer.train()
        assert_same(state_of(folder, 4), expected)
        assert saved_progress(latest_state(folder)) == progress == {"step": 4, "skipped": given.count(BAD)}


def test_a_run_that_does_nothing_else_comes_to_an_end(tmp_path: Path) -> None:
    """Fifty in a row; with a good one among them it goes on. The states from before are there."""
    trained(tmp_path / "goes on", [GOOD] + [BAD] * 49 + [GOOD] + [BAD] * 49)
    assert MAX_SKIPPED_IN_A_ROW == 50
    with pytest.raises(
        RunError, match="lower learning_rate, or .*: 50 steps in a row had no finite gradient, up to step 51"
    ):
        trained(tmp_path / "ends", [GOOD] + [BAD] * 60)
    assert saved_progress(latest_state(tmp_path / "ends")) == {"step": 50, "skipped": 49}
    weight = load_average(latest_state(tmp_path / "ends"))["weight"]
    assert weight.isfinite().all()


def test_the_last_two_states_are_kept(tmp_path: Path) -> None:
    trained(tmp_path, [GOOD] * 4)
    assert sorted(path.name for path in tmp_path.glob("state-*")) == ["state-0000003", "state-0000004"]


def test_a_state_of_another_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """Those of the trainer before config files say no version."""
    trained(tmp_path, [GOOD])
    file = tmp_path / "state-0000001" / "state.json"
    for version in (None, 3):
        state = json.loads(file.read_text(encoding="utf-8")) | {"version": version}
        if version is None:
            del state["version"]
        file.write_text(json.dumps(state), encoding="utf-8")
        with pytest.raises(ValueError, match=f"train this stage again.*version {version or 1}, .* reads version 2"):
            saved_progress(tmp_path / "state-0000001")


def test_averages_are_saved_as_averages(tmp_path: Path) -> None:
    """decay (1 + 1) / (10 + 1), then (1 + 2) / (10 + 2)."""
    trainer = trained(tmp_path, [GOOD, GOOD])
    first, second = (state_of(tmp_path, step) for step in (1, 2))
    start = torch.tensor([1.0, 2.0, 3.0])
    expected = 2 / 11 * start + 9 / 11 * first[TRAINED]["weight"]
    torch.testing.assert_close(first[AVERAGE]["weight"], expected)
    expected = 0.25 * expected + 0.75 * second[TRAINED]["weight"]
    torch.testing.assert_close(second[AVERAGE]["weight"], expected)
    assert torch.equal(trainer.average.values["weight"], second[AVERAGE]["weight"])
    assert torch.equal(trainer.stage.weight.detach(), second[TRAINED]["weight"])
    # A sheet shows the averages.
    sums = [entry["validation"]["sum"] for entry in log_of(tmp_path) if "validation" in entry]
    assert sums == [pytest.approx(second[AVERAGE]["weight"].sum().item())]


def test_the_last_step_is_logged_and_saved_however_often_others_are(tmp_path: Path) -> None:
    loop = replace(loop_of(5), log_every=3, save_every=4)
    Trainer(Slope(), Given([GOOD] * 5), loop, tmp_path, build_accelerator()).train()
    assert [entry["step"] for entry in log_of(tmp_path) if "loss" in entry] == [3, 5]
    assert sorted(path.name for path in tmp_path.glob("state-*")) == ["state-0000004", "state-0000005"]


def test_gradients_are_clipped_by_their_norm(tmp_path: Path) -> None:
    """AdamW's first moment is a tenth of the gradient that it saw: (3, 0, 4) at a norm of at most 1."""
    loop = replace(loop_of(1), gradient_clip=1.0)
    Trainer(Slope(), Given([GOOD]), loop, tmp_path, build_accelerator()).train()
    moments = state_of(tmp_path, 1)[OPTIMISER]
    torch.testing.assert_close(moments["weight|exp_avg"], torch.tensor([0.06, 0.0, 0.08]), rtol=1e-4, atol=0)
    assert [entry["gradient_norm"] for entry in log_of(tmp_path) if "loss" in entry] == [5.0]

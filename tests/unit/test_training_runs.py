"""Runs of a training: exact resume of every stage, states and records."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from sf_model.training import run, run_record
from sf_model.training.average import ParameterAverage
from sf_model.training.bases import tokenizer
from sf_model.training.bases.prompts import PromptTokens
from sf_model.training.loop import Trainer, build_accelerator
from sf_model.training.optimiser import trainable_parameters
from sf_model.training.run_state import AVERAGE, OPTIMISER, TRAINED, RunState, latest_state, save_state, saved_progress
from tests.unit.dummy_systems import without_sources
from tests.unit.mini_training import (
    DUMMY,
    batches_of,
    build_stage,
    loop_settings,
    mini_settings,
    smoke_settings,
    world_settings,
)


class KilledError(Exception):
    """In place of a signal."""


@pytest.mark.parametrize(
    ("name", "flow"),
    [("language", None), ("image", None), ("source", None), ("stage1", 0.0), ("stage1", 0.7), ("stage2", 0.7)],
)
def test_two_steps_resume_two_steps_are_four_steps(
    name: str, flow: float | None, tokenizer_dir: Path, tokens: PromptTokens, tmp_path: Path
) -> None:
    """In bf16, with edits where a stage knows them."""
    changes: dict[str, Any] = {"loop__mixed_precision": "bf16"} | ({} if flow is None else {"depth__flow": flow})
    data = batches_of(name, tokens, **({"edits": 0.5} if name in ("stage1", "stage2") else {}))
    states = {}
    for kind, stops in (("whole", [4]), ("resumed", [2, 4])):
        for stop in stops:
            stage = build_stage(name, tokenizer_dir, **changes)
            if stop != stops[0]:
                # What learned comes from the state, whatever a restarted process built.
                for value in trainable_parameters(stage).values():
                    torch.nn.init.normal_(value)
            trainer = Trainer(stage, data, loop_settings(4), tmp_path / kind, build_accelerator())
            _train_until(trainer, stop)
        folder = tmp_path / kind / "state-0000004"
        states[kind] = {file: safetensors.torch.load_file(folder / file) for file in (TRAINED, AVERAGE, OPTIMISER)}
    learned = trainable_parameters(build_stage(name, tokenizer_dir, **changes))
    assert states["whole"][TRAINED].keys() == states["whole"][AVERAGE].keys() == learned.keys()
    for file, tensors in states["whole"].items():
        assert tensors.keys() == states["resumed"][file].keys()
        assert all(torch.equal(value, states["resumed"][file][key]) for key, value in tensors.items()), file


def _train_until(trainer: Trainer, stop: int) -> None:
    """Train, and be killed right after the state of step `stop` was saved."""
    save = trainer._save

    def save_then_die() -> None:
        save()
        if trainer.step == stop:
            raise KilledError

    trainer._save = save_then_die  # type: ignore[method-assign]
    with pytest.raises(KilledError):
        trainer.train()


def test_only_complete_states_count_and_unfinished_ones_go(tmp_path: Path) -> None:
    (tmp_path / "state-0000400.partial").mkdir()
    for step in (100, 200, 300):
        save_state(tmp_path, {TRAINED: {"w": torch.ones(1)}}, {"step": step, "skipped": 1})
    # The last two: one that turns out to be bad is not the only one.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state-0000200", "state-0000300"]
    assert latest_state(tmp_path) == tmp_path / "state-0000300"
    assert saved_progress(tmp_path / "state-0000300") == {"step": 300, "skipped": 1}


def test_the_log_of_a_resumed_run_has_every_step_once(tmp_path: Path) -> None:
    run_record.begin_session(tmp_path, 0, loop=loop_settings(4))
    for step in (1, 2, 3):
        run_record.append_log(tmp_path, {"step": step, "loss": 1.0})
    run_record.begin_session(tmp_path, 2, loop=loop_settings(4))
    run_record.append_log(tmp_path, {"step": 3, "loss": 2.0})
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(entry["step"], entry["loss"]) for entry in log] == [(1, 1.0), (2, 1.0), (3, 2.0)]
    sessions = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["sessions"]
    assert [session["from_step"] for session in sessions] == [0, 2]


def test_a_session_may_change_what_leaves_the_result_as_it_is(tmp_path: Path) -> None:
    loop = loop_settings(4)
    run_record.begin_session(tmp_path, 0, loop=loop)
    free = {"workers": 3, "micro_batch": 1, "log_every": 7, "save_every": 9, "sheet_every": 5, "compile": True}
    run_record.begin_session(tmp_path, 2, loop=replace(loop, **free, gradient_checkpointing=True))
    for field, value in (("learning_rate", 1.0), ("batch_size", 8), ("seed", 3), ("decay_steps", 3)):
        with pytest.raises(run_record.RunError, match=rf"give the settings that .* was begun with.*loop.{field}: "):
            run_record.begin_session(tmp_path, 2, loop=replace(loop, **{field: value}))


def test_the_end_of_a_run_can_be_moved_until_the_rate_begins_to_fall(tmp_path: Path) -> None:
    loop = replace(loop_settings(100), decay_steps=40)
    run_record.begin_session(tmp_path, 0, loop=loop)
    sooner = replace(loop, steps=80, decay_steps=30)
    run_record.begin_session(tmp_path, 50, loop=sooner)
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["settings"]["loop"]["steps"] == 80
    # From step 50 on its rate falls.
    with pytest.raises(run_record.RunError, match="loop.steps: 80 before, 100 now"):
        run_record.begin_session(tmp_path, 51, loop=loop)
    with pytest.raises(run_record.RunError, match="loop.decay_steps: 30 before, 31 now"):
        run_record.begin_session(tmp_path, 51, loop=replace(sooner, decay_steps=31))


def test_late_settings_can_be_given_until_they_begin(tmp_path: Path) -> None:
    world, late = asdict(world_settings()), {"from_step": 60, "image_sizes": [64], "edits": 0.5}
    run_record.begin_session(tmp_path, 0, data=world)
    run_record.begin_session(tmp_path, 60, data={**world, "late": late})
    run_record.begin_session(tmp_path, 70, data={**world, "late": late})
    with pytest.raises(run_record.RunError, match="data.late"):
        run_record.begin_session(tmp_path, 70, data={**world, "late": {**late, "edits": 0.2}})
    with pytest.raises(run_record.RunError, match="data.late"):
        run_record.begin_session(tmp_path, 70, data=world)


def test_a_run_of_an_earlier_version_goes_on_where_what_is_new_is_off(tmp_path: Path) -> None:
    def base(sizes: Any) -> dict[str, Any]:
        return {"name": "mini", **json.loads(json.dumps(asdict(sizes)))}

    for name, sizes in (("off", without_sources()), ("on", DUMMY)):
        run_record.begin_session(tmp_path / name, 0, base=base(sizes))
        path = tmp_path / name / run_record.CONFIG_FILE
        record = json.loads(path.read_text(encoding="utf-8"))
        del record["settings"]["base"]["spatialfusion"]["spatial_transformer"]["source_at_queries"]
        path.write_text(json.dumps(record), encoding="utf-8")
    run_record.begin_session(tmp_path / "off", 2, base=base(without_sources()))
    with pytest.raises(run_record.RunError, match="give the settings that"):
        run_record.begin_session(tmp_path / "on", 2, base=base(DUMMY))
    with pytest.raises(run_record.RunError, match="give the settings that"):
        run_record.begin_session(tmp_path / "off", 2, base=base(mini_settings().system))
    # A field of the data, which is a level higher.
    data = asdict(world_settings())
    run_record.begin_session(tmp_path / "data", 0, data={key: data[key] for key in data if key != "scenes"})
    run_record.begin_session(tmp_path / "data", 2, data=data)
    with pytest.raises(run_record.RunError, match="data.scenes: None before, 8 now"):
        run_record.begin_session(tmp_path / "data", 2, data={**data, "scenes": 8})


def test_a_state_of_what_no_longer_learns_is_refused_by_name(tmp_path: Path) -> None:
    module = torch.nn.Linear(2, 2)
    state = _state_of(module)
    module(torch.ones(1, 2)).sum().backward()
    state.optimiser.step()
    saved = save_state(tmp_path, state.whole(), {"step": 1, "skipped": 0})
    state.load(saved)
    module.bias.requires_grad_(False)
    with pytest.raises(ValueError, match=r"begin a new run .*starts: other parameters were trained .*\(\['bias'\]\)"):
        _state_of(module).load(saved)


def _state_of(module: torch.nn.Module) -> RunState:
    learned = {name: value for name, value in module.named_parameters() if value.requires_grad}
    return RunState(module, torch.optim.AdamW(learned.values()), ParameterAverage(learned, 0.9))


def test_a_tokenizer_that_was_not_finished_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = smoke_settings(tmp_path)

    def die(*_arguments: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(tokenizer, "_write_config", die)
        run.make_tokenizer(settings)
    assert not run.tokenizer_folder(settings).exists()
    run.make_tokenizer(settings)
    made = {path.name: path.read_bytes() for path in run.tokenizer_folder(settings).iterdir()}
    assert set(made) == {"vocab.json", "merges.txt", "tokenizer_config.json"}
    # One that is there is kept.
    (run.tokenizer_folder(settings) / "vocab.json").write_text("mine", encoding="utf-8")
    run.make_tokenizer(settings)
    assert (run.tokenizer_folder(settings) / "vocab.json").read_text(encoding="utf-8") == "mine"

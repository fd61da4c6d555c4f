"""Runs of the Mini's training: exact resume, states and records."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from sf_model.training import run_record
from sf_model.training.data.world import PLAIN_MIXTURE, SPATIAL_MIXTURE, WorldBatches
from sf_model.training.loop import Trainer
from sf_model.training.mini_sizes import SIZES
from sf_model.training.run_state import latest_state, load_optimizer, save_state
from sf_model.training.stages import StageConfig
from sf_model.training.system import SpatialFusionSystem
from tests.unit.mini_training import DUMMY, build_stage, data_config, loop_config


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

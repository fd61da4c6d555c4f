"""python -m sf_model.training.controls --config configs/mini.yaml: train the models of the controls table.

From one base (the stages of the config before stage 1, which must be trained), for each number of spatial
scenes: a depth predictor (stage 1), and for each training seed two second stages of equal steps, batches, data and
learning rate. The adapter of "fusion" sees the predictor's depth; that of "data-only" sees none. Every run has its own
config. `evaluation minispace` compares the exported folders. Give the same command again to continue where it stopped.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ..backbones.mini import TOKENIZER_DIR
from .settings import SETTINGS_VERSION, STAGE_NAMES, StageSettings, TrainingSettings, load_settings, smoke

BASE_STAGES = STAGE_NAMES[: STAGE_NAMES.index("stage1")]


@dataclass(frozen=True)
class ControlRun:
    """One run: its config trains one stage and names the runs of the earlier stages in `starts`."""

    name: str
    stage: str
    settings: TrainingSettings
    # Name of the run that must finish first.
    after: str | None = None


def planned(settings: TrainingSettings, root: Path, scenes: list[int], seeds: list[int]) -> list[ControlRun]:
    """All runs. Each is listed after the run that it starts from."""
    starts = {name: str(Path(settings.starts.get(name, Path(settings.runs) / name))) for name in BASE_STAGES}
    runs = []
    for count in scenes:
        depth_name = f"depth-{count}"
        limited = replace(settings, starts=starts, stage1=_limited(settings.stage("stage1"), count))
        runs.append(ControlRun(depth_name, "stage1", replace(limited, runs=str(root / depth_name), stage2=None)))
        for seed in seeds:
            with_depth = {**starts, "stage1": str(root / depth_name / "stage1")}
            for name, stage in _second_stages(settings.stage("stage2"), count, seed).items():
                full = f"{name}-{count}-{seed}"
                own = replace(limited, runs=str(root / full), starts=with_depth, stage2=stage)
                runs.append(ControlRun(full, "stage2", own, after=depth_name))
    return runs


def _limited(stage: StageSettings, scenes: int) -> StageSettings:
    return replace(stage, world=replace(stage.world, scenes=scenes, edits=0.0, late=None))


def _second_stages(stage: StageSettings, scenes: int, seed: int) -> dict[str, StageSettings]:
    """Both freeze the predictor. They differ only in whether the adapter sees depth."""
    stage = _limited(stage, scenes)
    stage = replace(stage, loop=replace(stage.loop, seed=seed), fusion=replace(stage.fusion, freeze_predictor=True))
    without = replace(stage.diffusion, depth_dropout=1.0)
    only = replace(stage, fusion=replace(stage.fusion, true_depth=1.0), diffusion=without)
    return {"fusion": stage, "data-only": only}


def plain_settings(settings: TrainingSettings) -> dict[str, Any]:
    """The settings as the plain values of a config file."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    return {"version": SETTINGS_VERSION, **plain(asdict(settings))}


def train(run: ControlRun, root: Path, tokenizer: Path) -> None:
    """Train and export one run. CalledProcessError if a command fails. The log is beside the run's folder."""
    folder = root / run.name
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(plain_settings(run.settings), sort_keys=False), encoding="utf-8")
    if not (folder / tokenizer.name).exists():
        (folder / tokenizer.name).symlink_to(tokenizer.resolve(), target_is_directory=True)
    module = [sys.executable, "-m", "sf_model.training"]
    commands = [[*module, run.stage, "--config", str(config)]]
    if run.stage == "stage2":
        commands.append([*module, "export", "--config", str(config), "--output", str(root / "exported" / run.name)])
    with (root / f"{run.name}.log").open("a", encoding="utf-8") as log:
        for command in commands:
            print(" ".join(command), file=log, flush=True)
            subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=log, stderr=log)


def train_all(runs: list[ControlRun], root: Path, tokenizer: Path, at_once: int) -> None:
    """Train `at_once` runs in parallel. Each waits for the run that it starts from, which comes before it in `runs`."""
    root.mkdir(parents=True, exist_ok=True)
    done: dict[str, Future[None]] = {}

    def after_its_start(run: ControlRun) -> None:
        if run.after is not None:
            done[run.after].result()
        train(run, root, tokenizer)
        print(f"{run.name}: done", flush=True)

    with ThreadPoolExecutor(at_once) as pool:
        for run in runs:
            done[run.name] = pool.submit(after_its_start, run)
        for future in done.values():
            future.result()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sf_model.training.controls", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="configs/mini.yaml, or your copy of it")
    parser.add_argument("--output", type=Path, default=Path("runs/controls"))
    parser.add_argument("--scenes", type=int, nargs="+", default=[2000, 10000, 50000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--at-once", type=int, default=2, help="runs in parallel, one core each")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes and two steps a stage, to try it out")
    arguments = parser.parse_args()
    try:
        settings = load_settings(arguments.config)
        settings = smoke(settings) if arguments.smoke else settings
    except ValueError as error:
        raise SystemExit(str(error)) from error
    runs = planned(settings, arguments.output, arguments.scenes, arguments.seeds)
    train_all(runs, arguments.output, Path(settings.runs) / TOKENIZER_DIR, arguments.at_once)


if __name__ == "__main__":
    main()

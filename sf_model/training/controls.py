"""python -m sf_model.training.controls: train and export base, SpatialFusion and data-only of the controls' table.

base: a diffusion transformer from nothing, on captions that hardly mention space; the MLLM is the Mini's, frozen.
Then, for each number of spatial scenes: a depth predictor from nothing (stage 1), and for each training seed two
second stages of equal steps, batches, data and learning rate: SpatialFusion (the adapter sees the predictor's depth)
and data-only (it sees none). Trainings run side by side, one core each. The same command again goes on where it
stopped, and is refused where a run was begun with other settings.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..backbones.mini import MINI_DIR, TOKENIZER_DIR

SIZE = "mini"
IMAGE = ("--image-sizes", "64", "--workers", "0", "--sheet-every", "1000000", "--save-every", "250")
IMAGE_TIMES = ("--time-mean", "-2.2")
BASE = ("--freeze-mllm", "--max-objects", "3", "--compile", *IMAGE_TIMES, "--batch-size", "16")
BASE += ("--learning-rate", "1.2e-3")
DEPTH = ("--depth-flow", "0.85", "--depth-draws", "4", "--compile", "--batch-size", "16")
DEPTH += ("--learning-rate", "1.2e-3", "--warmup-steps", "50")
FUSION = (*IMAGE_TIMES, "--freeze-predictor", "--batch-size", "16", "--learning-rate", "6e-4", "--warmup-steps", "50")
FUSION += ("--ema-decay", "0.995", "--compile")
# Of SpatialFusion's scaffolds; the others are predicted from depths of as much noise as a sampled one's last step.
LIVE = ("--true-depth", "0.3", "--depth-flow", "1", "--depth-time-mean", "0")
WITHOUT = ("--true-depth", "1", "--depth-dropout", "1")


@dataclass(frozen=True)
class Run:
    """One training: its folder under --runs, its stage, its options, and what its weights start from: other runs, by
    their names, or folders."""

    name: str
    stage: str
    options: tuple[str, ...]
    parts: tuple[tuple[str, str | Path], ...] = ()

    @property
    def after(self) -> list[str]:
        """The runs that it waits for."""
        return [start for _, start in self.parts if isinstance(start, str)]


def planned(scenes: list[int], seeds: list[int], steps: dict[str, int], base: Path | None = None) -> list[Run]:
    """Every run after those that it starts from; `base`: the folder of one that is trained already."""
    runs = [Run("base", "base", (*BASE, "--steps", str(steps["base"])))] if base is None else []
    for count in scenes:
        limited = ("--scenes", str(count))
        runs.append(Run(f"depth-{count}", "stage1", (*DEPTH, *limited, "--steps", str(steps["stage1"]))))
    for count in scenes:
        for seed in seeds:
            common = (*FUSION, "--scenes", str(count), "--steps", str(steps["stage2"]), "--seed", str(seed))
            parts = (("transformer", base or "base"), ("predictor", f"depth-{count}"))
            runs.append(Run(f"fusion-{count}-{seed}", "stage2", (*common, *LIVE), parts))
            runs.append(Run(f"data-only-{count}-{seed}", "stage2", (*common, *WITHOUT), parts))
    return runs


def command_of(run: Run, root: Path, by_name: dict[str, Run]) -> list[str]:
    """The command that trains it."""
    parts = [f"decoder={MINI_DIR}"]
    for part, start in run.parts:
        parts.append(f"{part}={start if isinstance(start, Path) else _state(root, by_name[start])}")
    named = [argument for part in parts for argument in ("--part", part)]
    return [*_module(), run.stage, "--runs", str(root / run.name), *named, *run.options, *IMAGE]


def _module() -> list[str]:
    return [sys.executable, "-m", "sf_model.training"]


def _state(root: Path, run: Run) -> Path:
    return root / run.name / SIZE / run.stage


def train(run: Run, root: Path, by_name: dict[str, Run]) -> None:
    """Train and export one run. CalledProcessError where a command fails; its log is beside the run."""
    exported = root / "exported" / run.name
    tokenizer = root / run.name / SIZE / TOKENIZER_DIR
    if not tokenizer.is_dir():
        shutil.copytree(MINI_DIR / TOKENIZER_DIR, tokenizer)
    export = [*_module(), "export", "--stage", run.stage, "--runs", str(root / run.name), "--output", str(exported)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with (root / f"{run.name}.log").open("a", encoding="utf-8") as log:
        for command in (command_of(run, root, by_name), export):
            print(" ".join(command), file=log, flush=True)
            subprocess.run(command, check=True, env=environment, stdout=log, stderr=log)


def train_all(runs: list[Run], root: Path, at_once: int) -> None:
    """`at_once` together, each after those that it starts from; `runs` are in such an order."""
    root.mkdir(parents=True, exist_ok=True)
    by_name = {run.name: run for run in runs}
    done: dict[str, Future[None]] = {}

    def after_its_parts(run: Run) -> None:
        for name in run.after:
            done[name].result()
        train(run, root, by_name)
        print(f"{run.name}: done", flush=True)

    with ThreadPoolExecutor(at_once) as pool:
        for run in runs:
            done[run.name] = pool.submit(after_its_parts, run)
        for future in done.values():
            future.result()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sf_model.training.controls", description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/controls"))
    parser.add_argument("--scenes", type=int, nargs="+", default=[2000, 10000, 50000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--base", type=Path, help="run or exported system whose image model is the base: train none")
    parser.add_argument("--base-steps", type=int, default=15000)
    parser.add_argument("--depth-steps", type=int, default=6000)
    parser.add_argument("--fusion-steps", type=int, default=3000)
    parser.add_argument("--at-once", type=int, default=2, help="trainings side by side, one core each")
    arguments = parser.parse_args()
    steps = {"base": arguments.base_steps, "stage1": arguments.depth_steps, "stage2": arguments.fusion_steps}
    train_all(planned(arguments.scenes, arguments.seeds, steps, arguments.base), arguments.runs, arguments.at_once)


if __name__ == "__main__":
    main()

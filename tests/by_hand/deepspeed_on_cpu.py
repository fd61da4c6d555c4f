"""`python tests/by_hand/deepspeed_on_cpu.py FOLDER`: ZeRO-2 in two CPU processes gives what one process gives.

By hand, because deepspeed is a large package that compiles when it is used. It must be importable here
(`pip install deepspeed`, DS_BUILD_OPS=0). FOLDER must be empty: tiny weights, images and runs go there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import safetensors.torch
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-4
# What `accelerate launch` makes of configs/accelerate/zero2.yaml.
ZERO2 = {
    "ACCELERATE_USE_DEEPSPEED": "true",
    "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1",
    "ACCELERATE_GRADIENT_CLIPPING": "1.0",
    "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "none",
    "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "none",
    "DS_ACCELERATOR": "cpu",
}
ENDS_AT = "END_AT_STEP"


def work(arguments: list[str]) -> None:
    """One process of two. accelerate counts processes of GPUs only: that alone is set aside."""
    import torch
    from accelerate.state import PartialState

    from sf_model.training.bases import commands, trainer

    build, save = trainer.build_accelerator, trainer.BaseTrainer._save

    def build_counting(mixed_precision: str) -> object:
        accelerator = build(mixed_precision)
        world, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
        for state in (PartialState._shared_state, accelerator.state.__dict__):
            state.update(num_processes=world, process_index=rank, local_process_index=rank)
        assert (accelerator.distributed_type, accelerator.num_processes) == ("DEEPSPEED", 2)
        return accelerator

    def save_and_end(self: trainer.BaseTrainer) -> None:
        save(self)
        if str(self.step) == os.environ.get(ENDS_AT):
            os._exit(0)

    trainer.build_accelerator, trainer.BaseTrainer._save = build_counting, save_and_end  # type: ignore[method-assign]
    commands.main(arguments)


def launch(arguments: list[str], **environment: str) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", __file__, "work", *arguments]
    paths = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    subprocess.run(command, check=True, env={**os.environ, **ZERO2, "PYTHONPATH": paths, **environment})


def main(folder: Path) -> None:
    sys.path.insert(0, str(REPOSITORY))
    from sf_model.training.bases import commands
    from tests.training import tiny_bases, tiny_data

    stages = ("stage1", "stage2")
    changes = {
        f"{stage}__{name}": value for stage in stages for name, value in {"batch_size": 4, "save_every": 2}.items()
    }
    tiny_data.write_images(folder, edits=False)
    weights = tiny_bases.write_weights("omnigen2", folder / "weights")
    configs = {}
    for processes in (1, 2):
        values = yaml.safe_load(tiny_data.write_config(folder, "omnigen2", weights, edits=False, **changes).read_text())
        values["runs"] = str(folder / f"runs{processes}")
        configs[processes] = folder / f"config{processes}.yaml"
        configs[processes].write_text(yaml.safe_dump(values), encoding="utf-8")
    os.environ["ACCELERATE_USE_CPU"] = "true"
    for command in ("cache", *stages):
        commands.main([command, "--config", str(configs[1])])
    del os.environ["ACCELERATE_USE_CPU"]
    launch(["stage1", "--config", str(configs[2])])
    launch(["stage2", "--config", str(configs[2])], **{ENDS_AT: "2"})
    launch(["stage2", "--config", str(configs[2])])
    for stage in stages:
        one, two = (
            safetensors.torch.load_file(folder / f"runs{processes}/{stage}/state-0000004/average.safetensors")
            for processes in (1, 2)
        )
        error = max(((two[name] - one[name]).norm() / one[name].norm().clamp_min(1e-6)).item() for name in one)
        print(f"{stage}: {error:.1e} relative, at most {TOLERANCE}")
        assert one.keys() == two.keys() and error < TOLERANCE


if __name__ == "__main__":
    work(sys.argv[2:]) if sys.argv[1] == "work" else main(Path(sys.argv[1]))

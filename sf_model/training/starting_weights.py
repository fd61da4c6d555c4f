"""Where the weights of a new training of the Mini come from, and whether they fit what it is to learn."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch

from ..backbones.mini import TOKENIZER_DIR
from ..depth import metrics as depth_metrics
from ..models.pixel_encoder import PixelEncoder
from .arguments import run_folder, tokenizer_folder
from .data.world import Batch
from .export import load_exported, part_state_dict
from .mini_sizes import SOURCE_DIM
from .run_state import latest_state
from .stages import seen_depth
from .system import SpatialFusionSystem
from .tokenizer import same_vocabulary

PREVIOUS = {"stage1": "base", "stage2": "stage1"}
# What a stage builds on: the stage before need not be there where --part names all of it.
FOUNDATIONS = {"stage1": {"decoder"}, "stage2": {"decoder", "transformer", "predictor"}}
# Of a predictor, in the names of their parameters.
OPTIONAL_PARTS = ("depth_flow.", "source_encoder.")
# One depth for all pixels of all renders has as much.
MIN_SOURCE_DELTA1 = 0.25


def start_from(arguments: argparse.Namespace, system: SpatialFusionSystem) -> None:
    """Weights of a new run: the exported system that --init names, else the stage before, else random ones."""
    if arguments.init is not None:
        exported = load_exported(arguments.init)
        if exported.sizes.with_optional_parts_of(system.sizes) != system.sizes:
            raise SystemExit(f"{arguments.init} holds another size than --size {arguments.size}; name its own")
        if not same_vocabulary(arguments.init / TOKENIZER_DIR, tokenizer_folder(arguments)):
            raise SystemExit(
                f"{arguments.init} was trained with another vocabulary than {tokenizer_folder(arguments)}; copy its "
                f"{TOKENIZER_DIR} folder there"
            )
        _load(system, exported.state_dict())
    elif arguments.command in PREVIOUS and not FOUNDATIONS[arguments.command] <= dict(arguments.part).keys():
        state = required_state(arguments, PREVIOUS[arguments.command])
        for name, _ in system.named_children():
            _load(system.get_submodule(name), part_state_dict(name, state.parent))
    load_parts(arguments, system)
    if getattr(arguments, "expert_from_mllm", False):
        system.predictor.spatial_transformer.initialize_from_mllm(system.decoder.model.state_dict())


def load_parts(arguments: argparse.Namespace, system: SpatialFusionSystem) -> None:
    """What --part names."""
    for name, directory in arguments.part:
        try:
            _load(system.get_submodule(name), weights_of(name, directory))
        except (ValueError, RuntimeError) as error:
            raise SystemExit(f"--part {name}={directory}: {error}") from error


def weights_of(part: str, directory: Path) -> dict[str, torch.Tensor]:
    """What one --part names. SystemExit where the folder does not hold it."""
    try:
        return part_state_dict(part, directory)
    except ValueError as error:
        raise SystemExit(f"--part {part}={directory}: {error}") from error


def _load(module: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Strictly, but for what a predictor was not trained with: its depth flow and its encoder of source images start
    from nothing."""
    own = module.state_dict()
    optional = {key: value for key, value in own.items() if any(part in key for part in OPTIONAL_PARTS)}
    fitting = {key: value for key, value in state.items() if key not in optional or value.shape == own[key].shape}
    for key, value in state.items():
        reads_patches = key.endswith("source_encoder.project.weight") and value.shape[1] == SOURCE_DIM
        if reads_patches and key not in own.keys() & fitting.keys():
            raise ValueError("its predictor was trained to edit: give --edits, as it was trained")
    module.load_state_dict({**optional, **fitting})


def required_state(arguments: argparse.Namespace, stage: str) -> Path:
    """The last state of another stage's run. SystemExit where there is none."""
    state = latest_state(run_folder(arguments, stage))
    if state is None:
        raise SystemExit(
            f"{run_folder(arguments, stage)} holds no trained state; "
            f"run `python -m sf_model.training {stage} --size {arguments.size}` first"
        )
    return state


def check_depth_flow(arguments: argparse.Namespace, system: SpatialFusionSystem) -> None:
    """A predictor that goes on learning without its depth flow would keep one that no longer fits it."""
    share, flow = getattr(arguments, "depth_flow", 0.0), system.predictor.depth_flow
    learns = hasattr(arguments, "depth_flow") and not getattr(arguments, "freeze_predictor", False)
    if learns and share == 0 and flow is not None and flow.patch.weight.count_nonzero():
        raise SystemExit(
            "the predictor that this run starts from has a trained depth flow: give --depth-flow, as it was trained, "
            "or --freeze-predictor"
        )


@torch.no_grad()
def check_source_encoder(arguments: argparse.Namespace, system: SpatialFusionSystem, batch: Batch) -> None:
    """Edits train what reads the source's encoder, and leave the encoder itself as it is: it must see already."""
    encoder = system.predictor.source_encoder
    if not getattr(arguments, "edits", 0.0) or not isinstance(encoder, PixelEncoder):
        return
    seen = seen_depth(encoder.monocular_depth, batch["rgb"], batch["fov_y_deg"])
    right = depth_metrics.delta1(seen.log_depth.exp(), batch["depth_m"]).mean().item()
    if right < MIN_SOURCE_DELTA1:
        raise SystemExit(
            "the predictor that this run starts from has no trained encoder of source images, which --edits needs (of "
            f"renders it reads a depth with a delta1 of {right:.2f}; one that was trained has {MIN_SOURCE_DELTA1} and "
            "far more): run `python -m sf_model.training source` first, and name it with --part predictor="
        )

"""python -m sf_model.evaluation confidence: is the predicted depth better where its confidence is higher?"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ..backbones.mini import TOKENIZER_DIR
from ..metric_depth import MAX_DEPTH_M, MIN_DEPTH_M
from ..training.export import load_exported
from ..training.losses import CONFIDENT_ERROR
from ..training.revision import current_commit
from ..training.system import SpatialFusionSystem
from ..training.world_data import SPATIAL_MIXTURE, WorldBatches
from .depth import data_config
from .sampling import BUILTIN, weights_directory, weights_sha256

DECILES = 10
BATCH = 64


@dataclass(frozen=True)
class Decile:
    """Pixels of one tenth of the confidences, the lowest first: their mean confidence, their mean |log depth error|,
    and the confidence that this error deserves (min(1, CONFIDENT_ERROR / |error|), the loss's optimum)."""

    confidence: float
    log_error: float
    deserved: float


def deciles(confidence: torch.Tensor, log_error: torch.Tensor) -> list[Decile]:
    """Ten equal parts of the pixels, by rank of confidence; both (N,), N at least 10."""
    order = confidence.argsort()
    deserved = (CONFIDENT_ERROR / log_error.clamp_min(CONFIDENT_ERROR)).clamp(max=1)
    return [
        Decile(confidence[part].mean().item(), log_error[part].mean().item(), deserved[part].mean().item())
        for part in order.tensor_split(DECILES)
    ]


def rank_correlation(values: Sequence[float]) -> float:
    """Spearman's coefficient between a sequence and its order: -1 where every value is below the one before."""
    ranks = torch.tensor(values, dtype=torch.float64).argsort().argsort().double()
    places = torch.arange(len(values), dtype=torch.float64)
    return torch.corrcoef(torch.stack([places, ranks]))[0, 1].item()


@torch.no_grad()
def measure_confidence(system: SpatialFusionSystem, tokenizer_dir: Path, images: int, seed: int) -> list[Decile]:
    """Over the true surfaces of held-out captions of the spatial mixture."""
    data = data_config(dict(SPATIAL_MIXTURE), "held_out", system.sizes.image_size, seed, min(BATCH, images))
    batches = WorldBatches(data, tokenizer_dir)
    confidences, errors = [], []
    for index in range(-(-images // data.batch_size)):
        batch = batches[index]
        prompt = system.encode(batch["input_ids"], batch["prompt_mask"])
        prediction = system.predict_depth(prompt, *batch["depth_m"].shape[-2:])
        surface = torch.isfinite(batch["depth_m"])
        true = batch["depth_m"].clamp(MIN_DEPTH_M, MAX_DEPTH_M).log()
        confidences.append(torch.sigmoid(prediction.confidence_logit)[surface])
        errors.append((prediction.log_depth - true).abs()[surface])
    return deciles(torch.cat(confidences), torch.cat(errors))


def add_command(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("confidence", help="error of the predicted depth by decile of its confidence")
    command.add_argument("--weights", default=BUILTIN, help='"builtin" or an exported folder')
    command.add_argument("--images", type=int, default=256)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--json", type=Path, help="also write the table here")
    command.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    directory = weights_directory(arguments.weights)
    rows = measure_confidence(load_exported(directory), directory / TOKENIZER_DIR, arguments.images, arguments.seed)
    correlation = rank_correlation([row.log_error for row in rows])
    print("| decile of confidence | confidence | mean log error | deserved confidence |\n|---|---|---|---|")
    for number, row in enumerate(rows, start=1):
        print(f"| {number} | {row.confidence:.3f} | {row.log_error:.3f} | {row.deserved:.3f} |")
    print(f"rank correlation of decile and error: {correlation:.2f} (-1: the more certain, the better)")
    if arguments.json:
        record = {
            "commit": current_commit(),
            "weights_sha256": weights_sha256(directory),
            "images": arguments.images,
            "seed": arguments.seed,
            "rank_correlation": correlation,
            "deciles": [asdict(row) for row in rows],
        }
        arguments.json.write_text(json.dumps(record, indent=1), encoding="utf-8")

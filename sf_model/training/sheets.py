"""Sample sheets (image | predicted depth | true depth ...) and the validation figures that go to the log."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image

from ..backbones.mini import SAMPLING_SHIFT, velocity_from_data
from ..depth import metrics as depth_metrics
from ..depth.colours import depth_picture
from ..depth.metric_depth import MetricDepth
from ..models.depth_flow import DepthSampling, draw_noise
from .data.world import Batch, true_depth
from .flow import euler_sample, interpolate
from .stages import SourceStage, Stage
from .system import EncodedPrompt, SpatialFusionSystem

SHEET_STEPS = 20
SHEET_GUIDANCE = 4.0
SHEET_ROWS = 8
GUTTER = 2
SCALE = 2


@torch.no_grad()
def sample_images(
    system: SpatialFusionSystem,
    prompt: EncodedPrompt,
    empty: EncodedPrompt,
    depth: MetricDepth | None,
    noise: torch.Tensor,
    guidance: float = SHEET_GUIDANCE,
    steps: int = SHEET_STEPS,
    shift: float = SAMPLING_SHIFT,
    source: torch.Tensor | None = None,
) -> torch.Tensor:
    """Images (B, 3, H, W), nominally in [-1, 1], by Euler steps with text guidance, the depth on both halves, and the
    source (B, 3, H, W) in [0, 1] of an edit too."""
    tokens = None if depth is None else system.depth_tokens(depth, *noise.shape[-2:])

    def velocity(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        conditional = system.velocity(x, time, prompt, tokens, source)
        unconditional = system.velocity(x, time, empty, tokens, source)
        return unconditional + guidance * (conditional - unconditional)

    return euler_sample(velocity, noise, steps, shift)


@torch.no_grad()
def save_sheet(stage: Stage, batch: Batch, path: Path) -> dict[str, float]:
    """Draw the validation batch to `path` and return its figures.

    Columns: true image | true depth | mean of the depths (from stage 1 on) | one sampled depth (with a depth flow) |
    image generated from the last depth (base and stage 2). Of `source`: true image | true depth | depth read. The flow
    loss is measured with the mean as the scaffold, with a shuffled one and without: the adapter is used where they
    differ.
    """
    system = stage.system
    was_training = stage.training
    stage.eval()
    if stage.name == "mllm":
        metrics = {"language": stage(batch, torch.Generator())["language"].item()}
        stage.train(was_training)
        return metrics
    rgb, truth = batch["rgb"], true_depth(batch)
    if isinstance(stage, SourceStage):
        read = stage.read(rgb, batch["fov_y_deg"])
        pictures = [rgb, *(depth_picture(depth) * 2 - 1 for depth in (truth, read.to_metric_depth()))]
        write_png([column[:SHEET_ROWS] for column in pictures], path)
        stage.train(was_training)
        return _depth_metrics(read.log_depth.exp(), batch) | {"recognised": stage.recognised(batch)}
    prompt = system.encode(batch["input_ids"], batch["prompt_mask"])
    empty = system.encode(stage.empty_prompt_ids, torch.ones_like(stage.empty_prompt_ids, dtype=torch.bool))
    columns, metrics = [rgb, depth_picture(truth) * 2 - 1], {}
    prediction = scaffold = None
    if stage.name != "base":
        raw = system.predict_depth(prompt, *rgb.shape[-2:])
        prediction = scaffold = raw.to_metric_depth()
        columns.append(depth_picture(prediction) * 2 - 1)
        metrics |= _depth_metrics(raw.log_depth.exp(), batch)
        if stage.config.depth_flow > 0:
            shape = system.predictor.noise_shape(len(rgb), *rgb.shape[-2:])
            sampling = DepthSampling(draw_noise(shape, seed=0).to(rgb))
            scaffold = system.sample_depth(prompt, *rgb.shape[-2:], sampling).to_metric_depth()
            columns.append(depth_picture(scaffold) * 2 - 1)
    if stage.name != "stage1":
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(rgb.shape, generator=generator).to(rgb)
        metrics |= _flow_metrics(system, rgb, noise, prompt, prediction)
        rows = slice(0, SHEET_ROWS)
        some = EncodedPrompt(
            prompt.hidden[rows], prompt.mask[rows], [(k[rows], v[rows]) for k, v in prompt.keys_values]
        )
        shown = None if scaffold is None else scaffold[rows]
        columns.append(sample_images(system, some, empty.repeated(SHEET_ROWS), shown, noise[rows]))
    write_png([column[:SHEET_ROWS] for column in columns], path)
    stage.train(was_training)
    return metrics


def _depth_metrics(depth_m: torch.Tensor, batch: Batch) -> dict[str, float]:
    return {
        "abs_rel": depth_metrics.abs_rel(depth_m, batch["depth_m"]).mean().item(),
        "delta1": depth_metrics.delta1(depth_m, batch["depth_m"]).mean().item(),
    }


def _flow_metrics(
    system: SpatialFusionSystem,
    rgb: torch.Tensor,
    noise: torch.Tensor,
    prompt: EncodedPrompt,
    prediction: MetricDepth | None,
) -> dict[str, float]:
    time = (torch.arange(rgb.shape[0], device=rgb.device) + 0.5) / rgb.shape[0]
    x = interpolate(rgb, noise, time)

    def loss(tokens: torch.Tensor | None) -> float:
        return F.mse_loss(system.velocity(x, time, prompt, tokens), velocity_from_data(x, rgb, 1 - time)).item()

    metrics = {"flow_without_depth": loss(None)}
    if prediction is not None:
        tokens = system.depth_tokens(prediction, *rgb.shape[-2:])
        metrics |= {"flow": loss(tokens), "flow_shuffled_depth": loss(tokens.roll(1, dims=0))}
    return metrics


def write_png(columns: list[torch.Tensor], path: Path) -> None:
    """Columns of pictures (B, 3, H, W) in [-1, 1], of one size, side by side."""
    padded = [F.pad(column.float().cpu(), (GUTTER, GUTTER, GUTTER, GUTTER), value=1.0) for column in columns]
    rows = [torch.cat([column[index] for column in padded], dim=2) for index in range(len(padded[0]))]
    sheet = torch.cat(rows, dim=1)
    pixels = ((sheet.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    image = Image.fromarray(pixels)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.resize((image.width * SCALE, image.height * SCALE), Image.Resampling.NEAREST).save(path)

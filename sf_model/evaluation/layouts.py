"""python -m sf_model.evaluation layouts: MiniSpace's claims, scored on the layouts that are drawn before any picture.

No image and no reader are involved: the drawn objects themselves are measured. So this says how much of a failure is
the words' and how much the pictures'. The row "true" has the scenes that the prompts describe: the scorer's ceiling.
Free captions, which fix their scene, are compared with it object by object.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from .. import world
from ..models.layout import Layout
from ..models.layout_predictor import DEFAULT_GUIDANCE, DEFAULT_STEPS, LayoutSampling, layout_noise
from ..scene_reader.reading import CameraReading, FoundObject, true_object
from ..training.data.layouts import layouts_of, order_of
from ..training.export import load_exported
from ..training.layout_figures import layout_figures
from ..training.revision import current_commit
from ..training.system import System
from ..world import Camera, CaptionedScene, SceneObject
from .arguments import PUBLISHED_SEED
from .bootstrap import Estimate, mean_with_interval
from .minispace.prompts import GROUPS, Prompt, minispace_prompts
from .minispace.scoring import score
from .report import estimates_markdown, write_report
from .sampling import BUILTIN, NOISE_SEED_STRIDE, weights_directory, weights_name, weights_sha256

BATCH = 64
FREE_CAPTIONS = 240

Drawer = Callable[[Sequence[str], Sequence[int]], Layout]
"""(texts, their numbers) -> layouts."""


def drawer(system: System, seed: int, steps: int, guidance: float) -> Drawer:
    """Draws layouts as the nodes do. ValueError for a system without layouts."""
    predictor = system.predictor.layout
    if predictor is None:
        raise ValueError("choose other weights: these draw no layouts")

    @torch.no_grad()
    def draw(texts: Sequence[str], numbers: Sequence[int]) -> Layout:
        shape = predictor.noise_shape(1)
        noise = torch.cat([layout_noise(shape, seed * NOISE_SEED_STRIDE + number) for number in numbers])
        prompt = system.base.encode(*system.base.tokens.batch(texts, False), None)
        return predictor.sample(system.inputs(prompt, 1, 1), LayoutSampling(noise, steps, guidance))

    return draw


def objects_of(layout: Layout, row: int) -> tuple[list[SceneObject], Camera]:
    """The objects that exist in layout `row` of a batch, and its camera."""
    height_m, pitch_deg, fov_y_deg = layout.camera[row].tolist()
    objects = []
    for place in (layout.present[row] > 0.5).nonzero()[:, 0].tolist():
        x, z = layout.position_m[row, place].tolist()
        length, width, height = layout.size_m[row, place].tolist()
        category = world.CATEGORY_NAMES[int(layout.category[row, place].argmax())]
        color = list(world.COLORS)[int(layout.color[row, place].argmax())]
        heading = float(layout.heading_deg[row, place])
        objects.append(SceneObject(category, color, (x, z), heading, (length, width, height)))
    return objects, Camera(height_m, pitch_deg, fov_y_deg)


def score_of(prompt: Prompt, objects: Sequence[SceneObject], camera: Camera) -> float:
    """MiniSpace's score of objects that are known exactly."""
    found: list[FoundObject] = [true_object(obj, camera) for obj in objects]
    return score(prompt.constraint, found, CameraReading(camera.pitch_deg, camera.fov_y_deg))


def sub_domain_scores(draw: Drawer | None, prompts: Sequence[Prompt]) -> dict[str, Estimate]:
    """Percent of each sub-domain and of all. draw: None scores the prompts' own scenes."""
    scores: dict[str, list[float]] = {name: [] for names in GROUPS.values() for name in names}
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        layout = None if draw is None else draw([one.text for one in part], [one.number for one in part])
        for row, prompt in enumerate(part):
            scene = prompt.scene
            known = (scene.objects, scene.camera) if layout is None else objects_of(layout, row)
            scores[prompt.sub_domain].append(100 * score_of(prompt, *known))
    everything = {"all": mean_with_interval(list(scores.values()))}
    return everything | {name: mean_with_interval([values]) for name, values in scores.items()}


def free_figures(draw: Drawer, seed: int, count: int) -> dict[str, float]:
    """`layout_figures` of held-out captions that fix their scene."""
    rng = random.Random(f"layouts-{seed}")
    items: list[CaptionedScene] = [world.sample(rng, "free", "held_out") for _ in range(count)]
    drawn = draw([item.caption for item in items], range(count))
    objects = drawn.present.shape[1]
    true = layouts_of([item.scene for item in items], [order_of(item) for item in items], objects)
    return layout_figures(drawn, true, true.present > 0.5)


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("layouts", help="MiniSpace on the layouts alone, before any picture")
    command.add_argument("--weights", default=BUILTIN, help='"builtin" or a folder that `training export` wrote')
    command.add_argument("--prompts", type=int, default=40, help="of each of the 36 templates")
    command.add_argument("--steps", type=int, default=DEFAULT_STEPS, help="of a layout")
    command.add_argument("--guidance", type=float, default=DEFAULT_GUIDANCE, help="of a layout; 1 is none")
    command.add_argument("--seed", type=int, default=PUBLISHED_SEED, help="of the prompts and of the noise")
    command.add_argument("--output", type=Path, default=Path("output/layouts"))
    command.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    directory = weights_directory(arguments.weights)
    try:
        draw = drawer(load_exported(directory), arguments.seed, arguments.steps, arguments.guidance)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    prompts = minispace_prompts(arguments.seed, arguments.prompts)
    rows = {"drawn": sub_domain_scores(draw, prompts), "true": sub_domain_scores(None, prompts)}
    figures = {name: 100 * value for name, value in free_figures(draw, arguments.seed, FREE_CAPTIONS).items()}
    record = {
        "commit": current_commit(),
        "weights": weights_name(directory),
        "weights_sha256": weights_sha256(directory),
        **{name: getattr(arguments, name) for name in ("seed", "prompts", "steps", "guidance")},
    }
    table = {"minispace": rows, "free": figures}
    write_report(arguments.output, "layouts", record, table, markdown(rows, figures))


def markdown(rows: Mapping[str, Mapping[str, Estimate]], figures: Mapping[str, float]) -> str:
    """Both tables."""
    first = estimates_markdown(["layouts"], [([name], row) for name, row in rows.items()])
    second = [f"| {' | '.join(figures)} |", "|" + "---|" * len(figures)]
    second.append(f"| {' | '.join(f'{value:.1f}' for value in figures.values())} |")
    return "\n\n".join([first, "\n".join(second)])

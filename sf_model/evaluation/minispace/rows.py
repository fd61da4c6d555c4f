"""The rows of the table: images of the benchmark's prompts. All images have one size.

Rows without a system:
  floor            a blank image
  chance           renders of the right objects at random places: the score of a system that knows nothing of space
  ceiling          the renders of the prompts' own scenes

Rows of a system, which draw every prompt from the same noise with one of these depths (scaffolds):
  SpatialFusion    the system's own, as the nodes give it by default: a sampled scene, or the mean if only that was
                   trained
  mean depth       the mean of all scenes that fit
  oracle depth     the true depth
  shuffled depth   the depth for a prompt of another template of the same sub-domain
  misplaced depth  the true depth of the right objects at the places of `chance`
  blank depth      none
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ... import world
from ...depth.metric_depth import MetricDepth
from ...scene_reader.decode import decode, read
from ...scene_reader.network import SceneReader
from ...scene_reader.reading import SceneReading
from ..sampling import SystemSampler, no_depth, scene_depth
from ..workers import map_batches
from .prompts import Prompt
from .scoring import identity_shares, score, unasked_share

FUSION = "SpatialFusion"
MEAN = "mean depth"
BLANK = "blank depth"
ORACLE = "oracle depth"
SHUFFLED = "shuffled depth"
MISPLACED = "misplaced depth"
SCAFFOLD_ROWS = (BLANK, SHUFFLED, MISPLACED, MEAN, FUSION, ORACLE)
FLOOR, CHANCE, CEILING = "floor", "chance", "ceiling"
BUILTIN_ROWS = (FLOOR, CHANCE, *SCAFFOLD_ROWS, CEILING)
BLANK_GREY = 0.5
BATCH = 36

Drawer = Callable[[Sequence[Prompt]], torch.Tensor]


@dataclass(frozen=True)
class PromptResult:
    """The result of one prompt's image. With several training seeds every value is a mean."""

    score: float
    # The score, but 0 if the image shows an object that was not asked for.
    strict: float
    # Shares of the named objects that are there, and that are there in the right colour.
    objects: float
    colors: float
    # Found objects that were not asked for, over the number of named objects. It may exceed 1.
    unasked: float
    # 1 if all named objects are there in the right colour, else 0.
    whole: float


def scaffold_of(sampler: SystemSampler) -> str:
    """The scaffold for the row of another system. A base and the data-only control read no depth."""
    return FUSION if sampler.reads_depth else BLANK


def blank_images(prompts: Sequence[Prompt], image_size: int) -> torch.Tensor:
    return torch.full((len(prompts), 3, image_size, image_size), BLANK_GREY)


def true_renders(prompts: Sequence[Prompt], image_size: int) -> torch.Tensor:
    return world.render([prompt.scene for prompt in prompts], image_size, image_size).rgb


def scattered_renders(prompts: Sequence[Prompt], image_size: int) -> torch.Tensor:
    return world.render([scattered_scene(prompt) for prompt in prompts], image_size, image_size).rgb


def scattered_scene(prompt: Prompt) -> world.Scene:
    """The prompt's objects at random places. A prompt always has the same places."""
    return world.sample_scene(random.Random(f"scattered-{prompt.number}"), identities=prompt.constraint.objects)


def true_depth(prompts: Sequence[Prompt], image_size: int) -> MetricDepth:
    """The depth of the prompts' own scenes, with confidence 1."""
    return scene_depth([prompt.scene for prompt in prompts], image_size)


def shuffled_partners(prompts: Sequence[Prompt]) -> dict[int, Prompt]:
    """{prompt's number: another prompt}, one to one.

    The partner comes from another template of the sub-domain: it has as many objects, but another claim. ValueError if
    the templates have different numbers of prompts.
    """
    groups: dict[str, dict[int, list[Prompt]]] = {}
    for prompt in prompts:
        groups.setdefault(prompt.sub_domain, {}).setdefault(prompt.template, []).append(prompt)
    partners = {}
    for templates in groups.values():
        lists = list(templates.values())
        if len({len(group) for group in lists}) != 1 or len(lists) < 2:
            raise ValueError("shuffling needs at least two templates with equally many prompts")
        for place in range(len(lists[0])):
            step = 1 + place % (len(lists) - 1)
            for index, group in enumerate(lists):
                partners[group[place].number] = lists[(index + step) % len(lists)][place]
    return partners


def system_drawer(sampler: SystemSampler, scaffold: str, partners: dict[int, Prompt], seed: int) -> Drawer:
    """Draws prompts with the depth of one of SCAFFOLD_ROWS."""

    def scaffold_of(prompts: Sequence[Prompt]) -> MetricDepth:
        numbers = [prompt.number for prompt in prompts]
        if scaffold == BLANK:
            return no_depth(len(prompts), sampler.image_size)
        if scaffold == ORACLE:
            return true_depth(prompts, sampler.image_size)
        if scaffold == MISPLACED:
            return scene_depth([scattered_scene(prompt) for prompt in prompts], sampler.image_size)
        if scaffold == SHUFFLED:
            return sampler.scaffold([partners[number].text for number in numbers], numbers, seed)
        texts = [prompt.text for prompt in prompts]
        return sampler.predict_depth(texts) if scaffold == MEAN else sampler.scaffold(texts, numbers, seed)

    def draw(prompts: Sequence[Prompt]) -> torch.Tensor:
        noise = sampler.noise([prompt.number for prompt in prompts], seed)
        return sampler.draw([prompt.text for prompt in prompts], scaffold_of(prompts), noise)

    return draw


def judge(prompt: Prompt, reading: SceneReading) -> PromptResult:
    """The result of one image, from its reading."""
    objects, colors = identity_shares(prompt.constraint, reading.objects)
    points = score(prompt.constraint, reading.objects, reading.camera)
    unasked = unasked_share(prompt.constraint.objects, reading.objects)
    return PromptResult(points, points if unasked == 0 else 0.0, objects, colors, unasked, float(colors == 1))


def run_row(name: str, prompts: Sequence[Prompt], draw: Drawer, reader: SceneReader) -> list[PromptResult]:
    """Draw, read and judge every prompt, with a progress bar. Results are in the order of the prompts."""
    # Captions of similar length share a batch, to reduce padding.
    order = sorted(prompts, key=lambda prompt: (len(prompt.text), prompt.number))

    def judged(batch: Sequence[Prompt]) -> list[PromptResult]:
        return [judge(prompt, reading) for prompt, reading in zip(batch, decode(read(reader, draw(batch))))]

    results = map_batches(judged, order, BATCH, name, "prompt")
    by_number = {prompt.number: result for prompt, result in zip(order, results)}
    return [by_number[prompt.number] for prompt in prompts]

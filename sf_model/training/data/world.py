"""Batches of the metric world: captioned scenes, rendered on the way."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from ... import world
from ..bases.prompts import PromptTokens
from ..bases.tokenizer import encode_documents
from ..batch import Batch
from ..settings import CaptionShares, WorldSettings
from ..sheets import in_sheet_batches
from .numbered import NumberedBatches, Share, noise_seeds, sheet_times

VALIDATION_STREAM = "validation"
# The captions of a fixed training set, whatever the settings say: so every run on so many scenes sees the same ones.
SET_CAPTIONS = CaptionShares(plain=0.0, view=0.0, free=0.3)
SET_MAX_OBJECTS = 4
# Of the documents without an image; the others describe their scene twice.
GROUNDED_SHARE = 0.7
# A smaller part of a cell is not its object.
MIN_CELL_SHARE = 0.2


def caption_mixture(shares: CaptionShares) -> Mapping[str, float]:
    """Shares of all kinds of captions."""
    left = max(0.0, 1.0 - shares.plain - shares.view - shares.free) / len(world.SPATIAL_KINDS)
    named = {"plain": shares.plain, "view": shares.view, "free": shares.free}
    return {**named, **dict.fromkeys(world.SPATIAL_KINDS, left)}


@dataclass(frozen=True)
class WorldStream:
    """An independent series of scenes."""

    # Its name: one a stage.
    name: str
    seed: int
    split: str


@dataclass(frozen=True)
class Example:
    """One sample, before it is rendered."""

    scene: world.Scene
    text: str
    # The scene that an instruction edits.
    source: world.Scene | None


class WorldBatches(NumberedBatches):
    """Rendered scenes with their captions; steps of edits have instructions, and their source images as well.

    cell_px: with `category` and `color` (B, rows, columns), the labels of what stands in each cell of so many pixels a
    side (`cell_labels`). None: without.
    """

    def __init__(
        self,
        settings: WorldSettings,
        tokens: PromptTokens,
        share: Share,
        stream: WorldStream,
        cell_px: int | None = None,
    ) -> None:
        self.settings, self.tokens, self.share, self.stream = settings, tokens, share, stream
        self.cell_px = cell_px
        self._group = -1
        self._group_steps: list[list[world.CaptionedScene]] = []
        self._epoch = -1
        self._order: list[int] = []

    def is_edit(self, step: int) -> bool:
        """Whether step `step` holds edits: so many of all, evenly spread."""
        edits = self.settings.edits
        return math.floor((step + 1) * edits) > math.floor(step * edits)

    def examples(self, step: int) -> list[Example]:
        """The samples of a step, of all processes."""
        if self.is_edit(step):
            return [Example(pair.target, pair.instruction, pair.source) for pair in self._edit_pairs(step)]
        return [Example(item.scene, item.caption, None) for item in self.captioned(step)]

    def captioned(self, step: int) -> list[world.CaptionedScene]:
        """The captioned scenes of a step, of about one length: little is padded."""
        group, place = divmod(step, self.settings.length_buckets)
        if self._group != group:
            self._group, self._group_steps = group, self._length_buckets(group)
        return self._group_steps[place]

    def _length_buckets(self, group: int) -> list[list[world.CaptionedScene]]:
        """`length_buckets` steps, sorted among themselves by the captions' lengths and then shuffled."""
        settings, stream, size = self.settings, self.stream, self.share.batch_size
        rng = random.Random(f"{stream.split}-{stream.name}-{stream.seed}-{group}")
        count = settings.length_buckets * size
        if settings.scenes:
            items = [self._set_item(place) for place in range(group * count, (group + 1) * count)]
        else:
            mixture = caption_mixture(settings.captions)
            items = [sample_captioned(rng, mixture, settings.max_objects, stream.split) for _ in range(count)]
        items.sort(key=lambda item: len(item.caption))
        steps = [items[start : start + size] for start in range(0, count, size)]
        rng.shuffle(steps)
        return steps

    def _set_item(self, place: int) -> world.CaptionedScene:
        """Sample `place` of a run over a limited set, each epoch in an order of its own."""
        stream, count = self.stream, self.settings.scenes
        epoch, position = divmod(place, count)
        if self._epoch != epoch:
            self._epoch, self._order = epoch, list(range(count))
            random.Random(f"order-{stream.name}-{stream.seed}-{epoch}").shuffle(self._order)
        rng = random.Random(f"set-{stream.split}-{self._order[position]}")
        return sample_captioned(rng, caption_mixture(SET_CAPTIONS), SET_MAX_OBJECTS, stream.split)

    def _edit_pairs(self, step: int) -> list[world.EditPair]:
        """Edits of all kinds alike."""
        stream = self.stream
        rng = random.Random(f"edits-{stream.split}-{stream.name}-{stream.seed}-{step}")
        pairs: list[world.EditPair] = []
        while len(pairs) < self.share.batch_size:
            pair = world.sample_edit(rng, rng.choice(world.EDIT_KINDS), stream.split)
            if max(len(pair.source.objects), len(pair.target.objects)) <= self.settings.max_objects:
                pairs.append(pair)
        return pairs

    def __getitem__(self, step: int) -> list[Batch]:
        sizes = self.settings.image_sizes
        examples = self.examples(step)
        seeds = noise_seeds(self.stream.seed, step, len(examples))
        return [
            self.collate([example for example, _ in part], [seed for _, seed in part], sizes[step % len(sizes)])
            for part in self.share.micro_batches(list(zip(examples, seeds)))
        ]

    def collate(self, examples: Sequence[Example], seeds: Sequence[int], size: int) -> Batch:
        """One micro-batch of images of `size` pixels a side; all of the examples are edits or none is."""
        scenes = [example.scene for example in examples]
        rendering = self._render(scenes, size)
        batch: Batch = {
            "rgb": rendering.rgb,
            "depth_m": rendering.depth_m,
            "fov_y_deg": torch.tensor([scene.camera.fov_y_deg for scene in scenes]),
            "noise_seed": torch.tensor(seeds),
        }
        is_edit = examples[0].source is not None
        texts = [example.text for example in examples]
        batch["input_ids"], batch["prompt_mask"] = self.tokens.batch(texts, is_edit)
        batch["empty_ids"], batch["empty_mask"] = self.tokens.batch([""] * len(texts), is_edit)
        if is_edit:
            batch["source"] = self._render([example.source for example in examples], size).rgb
        if self.cell_px is not None:
            batch["category"], batch["color"] = cell_labels(rendering.object_index, scenes, self.cell_px)
        return batch

    def _render(self, scenes: Sequence[world.Scene | None], size: int) -> world.Rendering:
        return world.render(scenes, size, size, supersample=self.settings.supersample)

    def validation(self) -> list[Batch]:
        """Held-out captions of the same mixture, without edits; the first size."""
        settings = replace(self.settings, edits=0.0, scenes=0, length_buckets=1, max_objects=SET_MAX_OBJECTS)
        count = self.settings.validation_samples
        share = Share(count, count)
        stream = WorldStream(VALIDATION_STREAM, self.stream.seed, "held_out")
        held_out = WorldBatches(settings, self.tokens, share, stream, self.cell_px)
        batches = []
        for part in in_sheet_batches(list(enumerate(held_out.examples(0))), self.share.micro_batch):
            numbers, examples = zip(*part)
            batch = held_out.collate(examples, numbers, settings.image_sizes[0])
            batches.append({**batch, "sheet_time": sheet_times(numbers, count)})
        return batches


def sample_captioned(
    rng: random.Random, mixture: Mapping[str, float], max_objects: int, split: str
) -> world.CaptionedScene:
    """A captioned scene of a mixture of kinds, with at most `max_objects` objects."""
    while True:
        kind = rng.choices(list(mixture), list(mixture.values()))[0]
        item = world.sample(rng, kind, split)
        if len(item.scene.objects) <= max_objects:
            return item


def cell_labels(
    object_index: torch.Tensor, scenes: Sequence[world.Scene], cell_px: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices (B, rows, columns) into CATEGORY_NAMES and COLORS of the object that covers most of each cell, or their
    lengths where none covers MIN_CELL_SHARE of it. object_index: (B, H, W) of a rendering, of sides that are multiples
    of cell_px."""
    most = max(len(scene.objects) for scene in scenes)
    shown = F.one_hot(object_index.clamp_min(-1) + 1, most + 1)[..., 1:].permute(0, 3, 1, 2)
    share, owner = F.avg_pool2d(shown.float(), cell_px).max(dim=1)
    names, colors = list(world.CATEGORY_NAMES), list(world.COLORS)
    category, color = torch.full_like(owner, len(names)), torch.full_like(owner, len(colors))
    for place, scene in enumerate(scenes):
        for index, obj in enumerate(scene.objects):
            own = (owner[place] == index) & (share[place] >= MIN_CELL_SHARE)
            category[place][own], color[place][own] = names.index(obj.category), colors.index(obj.color)
    return category, color


class DocumentBatches(NumberedBatches):
    """Documents without images: language_ids and language_mask (B, T)."""

    def __init__(self, settings: WorldSettings, tokens: PromptTokens, share: Share, stream: WorldStream) -> None:
        self.settings, self.tokens, self.share, self.stream = settings, tokens, share, stream

    def __getitem__(self, step: int) -> list[Batch]:
        texts = self.documents(step)
        return [self.collate(part) for part in self.share.micro_batches(texts)]

    def documents(self, step: int) -> list[list[str]]:
        """Each grounds a caption's objects in the picture, or describes its scene twice.

        To foretell the second text, the language model must keep what the first one says of each object, and tell left
        from right. A single text gives it no reason to.
        """
        stream, settings = self.stream, self.settings
        rng = random.Random(f"language-{stream.split}-{stream.seed}-{step}")
        mixture = caption_mixture(settings.captions)
        documents = []
        for _ in range(self.share.batch_size):
            captioned = sample_captioned(rng, mixture, settings.max_objects, stream.split)
            if rng.random() < GROUNDED_SHARE:
                texts = [captioned.caption, world.ground(captioned)]
            else:
                texts = [captioned.caption, world.describe_again(rng, captioned)]
                rng.shuffle(texts)
            documents.append(texts)
        return documents

    def collate(self, documents: list[list[str]]) -> Batch:
        """Padded on the right."""
        ids, mask = encode_documents(self.tokens, documents)
        return {"language_ids": ids, "language_mask": mask}

    def validation(self) -> list[Batch]:
        """Held-out documents."""
        count = self.settings.validation_samples
        stream = WorldStream(VALIDATION_STREAM, self.stream.seed, "held_out")
        held_out = DocumentBatches(self.settings, self.tokens, Share(count, count), stream)
        return [held_out.collate(held_out.documents(0))]

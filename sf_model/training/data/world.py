"""Batches of the synthetic world: captioned scenes, rendered when they are needed."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from ... import world
from ...models.layout import layout_state
from ...world.geometry import image_slope
from ..bases.prompts import PromptTokens
from ..batch import Batch
from ..settings import CaptionShares, WorldSettings
from ..sheets import in_sheet_batches
from .layouts import layouts_of, order_of
from .numbered import NumberedBatches, Share, noise_seeds, sheet_times

VALIDATION_STREAM = "validation"
# The place of `Pictures` in a batch that is not rendered.
PICTURES = "pictures"
# A fixed training set always has these captions, so that all runs with the same number of scenes see the same ones.
SET_CAPTIONS = CaptionShares(plain=0.0, view=0.0, free=0.3)
SET_MAX_OBJECTS = 4
# A cell has the label of an object only if the object covers this share of it.
MIN_CELL_SHARE = 0.2


def caption_mixture(shares: CaptionShares) -> Mapping[str, float]:
    """Shares of all kinds of captions."""
    left = max(0.0, 1.0 - shares.plain - shares.view - shares.free) / len(world.SPATIAL_KINDS)
    named = {"plain": shares.plain, "view": shares.view, "free": shares.free}
    return {**named, **dict.fromkeys(world.SPATIAL_KINDS, left)}


@dataclass(frozen=True)
class WorldStream:
    """An independent stream of scenes."""

    # One name for each stage.
    name: str
    seed: int
    split: str


@dataclass(frozen=True)
class Example:
    """One sample before it is rendered."""

    scene: world.Scene
    text: str
    # The objects' indices, in the order of their places in the layout.
    order: list[int]
    # The scene that an instruction edits.
    source: world.Scene | None

    @staticmethod
    def of_caption(item: world.CaptionedScene) -> Example:
        return Example(item.scene, item.caption, order_of(item), None)

    @staticmethod
    def of_edit(pair: world.EditPair) -> Example:
        return Example(pair.target, pair.instruction, list(range(len(pair.target.objects))), pair.source)


@dataclass(frozen=True)
class Pictures:
    """What is still to be rendered of a batch."""

    scenes: list[world.Scene]
    # The scenes before an edit.
    sources: list[world.Scene] | None
    # Pixels of a side.
    size: int


class WorldBatches(NumberedBatches):
    """Rendered scenes with their captions. Steps of edits have instructions and source images.

    cell_px: the side of the cells for the labels `category` and `color` (B, rows, columns) of `cell_labels`. The
    layouts' objects then come from left to right, as a picture shows them. None: no labels, and the order of mention.
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
        """Whether step `step` consists of edits. Such steps are evenly spread."""
        late = self.settings.late
        edits = self.settings.edits if late is None or step < late.from_step else late.edits
        return math.floor((step + 1) * edits) > math.floor(step * edits)

    def image_size(self, step: int) -> int:
        """Pixels of a side in step `step`."""
        late = self.settings.late
        sizes = self.settings.image_sizes if late is None or step < late.from_step else late.image_sizes
        return sizes[step % len(sizes)]

    def examples(self, step: int) -> list[Example]:
        """The samples of a step for all processes."""
        if self.is_edit(step):
            return [Example.of_edit(pair) for pair in self._edit_pairs(step)]
        return [Example.of_caption(item) for item in self.captioned(step)]

    def captioned(self, step: int) -> list[world.CaptionedScene]:
        """The captioned scenes of a step. The captions have similar lengths, to reduce padding."""
        group, place = divmod(step, self.settings.length_buckets)
        if self._group != group:
            self._group, self._group_steps = group, self._length_buckets(group)
        return self._group_steps[place]

    def _length_buckets(self, group: int) -> list[list[world.CaptionedScene]]:
        """`length_buckets` steps. Their captions are sorted by length into steps; then the steps are shuffled."""
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
        """Sample `place` of a run over a fixed set. Every epoch has its own order."""
        stream, count = self.stream, self.settings.scenes
        epoch, position = divmod(place, count)
        if self._epoch != epoch:
            self._epoch, self._order = epoch, list(range(count))
            random.Random(f"order-{stream.name}-{stream.seed}-{epoch}").shuffle(self._order)
        rng = random.Random(f"set-{stream.split}-{self._order[position]}")
        return sample_captioned(rng, caption_mixture(SET_CAPTIONS), SET_MAX_OBJECTS, stream.split)

    def _edit_pairs(self, step: int) -> list[world.EditPair]:
        """Edits, with equal shares of all kinds."""
        stream = self.stream
        rng = random.Random(f"edits-{stream.split}-{stream.name}-{stream.seed}-{step}")
        pairs: list[world.EditPair] = []
        while len(pairs) < self.share.batch_size:
            pair = world.sample_edit(rng, rng.choice(world.EDIT_KINDS), stream.split)
            if max(len(pair.source.objects), len(pair.target.objects)) <= self.settings.max_objects:
                pairs.append(pair)
        return pairs

    def __getitem__(self, step: int) -> list[Batch]:
        examples, size = self.examples(step), self.image_size(step)
        seeds = noise_seeds(self.stream.seed, step, len(examples))
        return [
            self.collate([example for example, _ in part], [seed for _, seed in part], size)
            for part in self.share.micro_batches(list(zip(examples, seeds)))
        ]

    def collate(self, examples: Sequence[Example], seeds: Sequence[int], size: int) -> Batch:
        """One micro-batch of images of `size` pixels a side. All or none of the examples are edits."""
        scenes = [example.scene for example in examples]
        batch: Batch = {
            "fov_y_deg": torch.tensor([scene.camera.fov_y_deg for scene in scenes]),
            "noise_seed": torch.tensor(seeds),
        }
        is_edit = examples[0].source is not None
        texts = [example.text for example in examples]
        batch["input_ids"], batch["prompt_mask"] = self.tokens.batch(texts, is_edit)
        batch["empty_ids"], batch["empty_mask"] = self.tokens.batch([""] * len(texts), is_edit)
        orders = [example.order for example in examples]
        if self.cell_px is not None:
            orders = [_from_left_to_right(scene) for scene in scenes]
        layout = layouts_of(scenes, orders, SET_MAX_OBJECTS)
        batch["layout_state"] = layout_state(layout)
        pictures = Pictures(scenes, [example.source for example in examples] if is_edit else None, size)
        if self.settings.render_on == "device":
            return {**batch, PICTURES: pictures}
        return batch | self._rendered(pictures, torch.device("cpu"))

    def on_device(self, batch: Batch, device: torch.device) -> Batch:
        """The batch on a device, where its pictures are rendered if no worker did it."""
        batch = dict(batch)
        pictures = batch.pop(PICTURES, None)
        batch = super().on_device(batch, device)
        return batch if pictures is None else batch | self._rendered(pictures, device)

    def _rendered(self, pictures: Pictures, device: torch.device) -> Batch:
        def render(scenes: Sequence[world.Scene]) -> world.Rendering:
            return world.render(scenes, pictures.size, pictures.size, device, self.settings.supersample)

        rendering = render(pictures.scenes)
        batch: Batch = {
            "rgb": rendering.rgb,
            "depth_m": rendering.depth_m,
            "is_object": rendering.object_index >= 0,
        }
        if pictures.sources is not None:
            batch["source"] = render(pictures.sources).rgb
        if self.cell_px is not None:
            batch["category"], batch["color"] = cell_labels(rendering.object_index, pictures.scenes, self.cell_px)
        return batch

    def validation(self) -> list[Batch]:
        """Held-out captions of the same mixture, without edits, at the first image size."""
        changes = {"edits": 0.0, "late": None, "scenes": 0, "length_buckets": 1, "max_objects": SET_MAX_OBJECTS}
        settings = replace(self.settings, **changes)
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


def _from_left_to_right(scene: world.Scene) -> list[int]:
    return sorted(range(len(scene.objects)), key=lambda index: image_slope(scene.objects[index]))


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
    """(B, rows, columns) indices into CATEGORY_NAMES, and into COLORS, of the object that covers most of each cell.

    Cells of which no object covers MIN_CELL_SHARE have the length of the list instead. object_index: (B, H, W) of a
    rendering; its sides are multiples of cell_px.
    """
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

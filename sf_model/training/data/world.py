"""Batches of the metric world: batch n of a run is a function of (seed, n) alone, so a run resumes exactly."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from transformers import Qwen2Tokenizer

from ... import world
from ...depth.metric_depth import MetricDepth
from ..tokenizer import encode_documents, encode_prompts, load_tokenizer

Batch = dict[str, torch.Tensor]


def true_depth(batch: Batch) -> MetricDepth:
    """The depth that a batch was made with, which is certain everywhere."""
    return MetricDepth(batch["depth_m"], torch.ones_like(batch["depth_m"]), batch["fov_y_deg"])


def caption_mixture(plain: float, view: float, free: float) -> dict[str, float]:
    """Shares of the captions' kinds: what the three leave goes evenly to GenSpace's nine sub-domains."""
    spatial = max(0.0, 1.0 - plain - view - free) / len(world.SPATIAL_KINDS)
    return {"plain": plain, "view": view, "free": free, **dict.fromkeys(world.SPATIAL_KINDS, spatial)}


# Web captions for the base; captions that fix the scene, and GenSpace's nine sub-domains, for the spatial stages.
PLAIN_MIXTURE: Mapping[str, float] = {"plain": 1.0}
SPATIAL_MIXTURE: Mapping[str, float] = caption_mixture(plain=0.1, view=0.15, free=0.4)
LANGUAGE_MIXTURE: Mapping[str, float] = caption_mixture(plain=0.1, view=0.3, free=0.3)
# Of a limited set: what GenSpace asks for, and captions that fix the scene. No option changes it, so that every run on
# so many scenes sees the same ones.
SET_MIXTURE: Mapping[str, float] = caption_mixture(plain=0.0, view=0.0, free=0.3)
SET_MAX_OBJECTS = 4
# Of the documents without an image; the others describe their scene twice.
GROUNDED_SHARE = 0.7
# A smaller part of a cell is not its object.
MIN_CELL_SHARE = 0.2


@dataclass(frozen=True)
class WorldDataConfig:
    """`stream` names an independent series of scenes (one a stage); `mixture` weighs the captions' kinds. Images are
    square; batch n has `image_sizes[n % len(image_sizes)]` pixels a side.

    `language_batch`: so many documents without an image in a batch. `length_buckets` consecutive batches are drawn
    together and sorted by the captions' lengths, so that little is padded; 1 where a single batch must be a fair
    sample. Scenes of more than `max_objects` are drawn again. `edits`: the share of batches that are pairs of an edit,
    evenly spread. `scenes`: so many different captioned scenes of SET_MIXTURE are all there is, the same ones for every
    stream and seed, and the first of any larger number; 0 is no end of them, of `mixture`. `cell_px`: with the labels
    of what stands in each cell of so many pixels a side. ValueError for scenes and edits, which have no end.
    """

    image_sizes: tuple[int, ...]
    batch_size: int
    stream: str
    seed: int
    split: str
    mixture: tuple[tuple[str, float], ...]
    language_batch: int
    supersample: int
    length_buckets: int
    max_objects: int
    edits: float = 0.0
    scenes: int = 0
    cell_px: int | None = None

    def __post_init__(self) -> None:
        if self.scenes < 0 or (self.scenes and self.edits):
            raise ValueError("a limited set has a positive number of scenes, and no edits")


class NumberedBatches(Dataset):
    """Item n is batch n. `samples_per_step`: of one process; each has batches of its own."""

    samples_per_step: int

    def steps(self, first: int, last: int, rank: int, world: int, workers: int) -> Iterator[list[Batch]]:
        """The one batch of each of the steps `first` to `last` - 1."""
        for batch in loader(self, range(first * world + rank, last * world, world), workers):
            yield [batch]


class WorldBatches(NumberedBatches):
    """Item n is batch n: rgb (B, 3, S, S) in [-1, 1], depth_m (B, S, S) with inf for sky, fov_y_deg (B,), input_ids and
    prompt_mask (B, T), and for the language model language_ids and language_mask (L, T). Batches of edits have source
    (B, 3, S, S) in [0, 1] as well, and instructions for captions; labelled ones `cell_labels` as category, color."""

    def __init__(self, config: WorldDataConfig, tokenizer_dir: Path) -> None:
        self.config, self.samples_per_step = config, config.batch_size
        self.tokenizer = load_tokenizer(tokenizer_dir)
        self._group = -1
        self._group_batches: list[list[world.CaptionedScene]] = []
        self._epoch = -1
        self._order: list[int] = []

    def captioned(self, index: int) -> list[world.CaptionedScene]:
        """The scenes of batch `index` with their captions, of about one length: little is padded."""
        group, place = divmod(index, self.config.length_buckets)
        if self._group != group:
            self._group, self._group_batches = group, self._length_buckets(group)
        return self._group_batches[place]

    def _length_buckets(self, group: int) -> list[list[world.CaptionedScene]]:
        """`length_buckets` batches, sorted among themselves by the captions' lengths and then shuffled."""
        config = self.config
        rng = random.Random(f"{config.split}-{config.stream}-{config.seed}-{group}")
        count = config.length_buckets * config.batch_size
        if config.scenes:
            items = [self._set_item(place) for place in range(group * count, (group + 1) * count)]
        else:
            items = [_captioned_scene(rng, config.mixture, config.max_objects, config.split) for _ in range(count)]
        items.sort(key=lambda item: len(item.caption))
        batches = [items[start : start + config.batch_size] for start in range(0, count, config.batch_size)]
        rng.shuffle(batches)
        return batches

    def _set_item(self, place: int) -> world.CaptionedScene:
        """Sample `place` of a run over a limited set, each epoch in an order of its own."""
        config = self.config
        epoch, position = divmod(place, config.scenes)
        if self._epoch != epoch:
            self._epoch, self._order = epoch, list(range(config.scenes))
            random.Random(f"order-{config.stream}-{config.seed}-{epoch}").shuffle(self._order)
        rng = random.Random(f"set-{config.split}-{self._order[position]}")
        return _captioned_scene(rng, tuple(SET_MIXTURE.items()), SET_MAX_OBJECTS, config.split)

    def is_edit(self, index: int) -> bool:
        """Whether batch `index` holds edits."""
        return math.floor((index + 1) * self.config.edits) > math.floor(index * self.config.edits)

    def edit_pairs(self, index: int) -> list[world.EditPair]:
        """The edits of batch `index`, of all kinds alike."""
        config = self.config
        rng = random.Random(f"edits-{config.split}-{config.stream}-{config.seed}-{index}")
        pairs: list[world.EditPair] = []
        while len(pairs) < config.batch_size:
            pair = world.sample_edit(rng, rng.choice(world.EDIT_KINDS), config.split)
            if max(len(pair.source.objects), len(pair.target.objects)) <= config.max_objects:
                pairs.append(pair)
        return pairs

    def __getitem__(self, index: int) -> Batch:
        config = self.config
        if self.is_edit(index):
            pairs = self.edit_pairs(index)
            batch = self._batch(index, [pair.target for pair in pairs], [pair.instruction for pair in pairs])
            batch["source"] = self._render(index, [pair.source for pair in pairs]).rgb
        else:
            items = self.captioned(index)
            batch = self._batch(index, [item.scene for item in items], [item.caption for item in items])
        if config.language_batch:
            batch |= language_batch(self.tokenizer, config.seed, config.split, index, config.language_batch)
        return batch

    def _render(self, index: int, scenes: list[world.Scene]) -> world.Rendering:
        size = self.config.image_sizes[index % len(self.config.image_sizes)]
        return world.render(scenes, size, size, supersample=self.config.supersample)

    def _batch(self, index: int, scenes: list[world.Scene], texts: list[str]) -> Batch:
        rendering = self._render(index, scenes)
        input_ids, prompt_mask = encode_prompts(self.tokenizer, texts)
        batch = {
            "rgb": rendering.rgb * 2 - 1,
            "depth_m": rendering.depth_m,
            "fov_y_deg": torch.tensor([scene.camera.fov_y_deg for scene in scenes]),
            "input_ids": input_ids,
            "prompt_mask": prompt_mask,
        }
        if self.config.cell_px:
            labels = cell_labels(rendering.object_index, scenes, self.config.cell_px)
            batch["category"], batch["color"] = labels
        return batch


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


def _captioned_scene(
    rng: random.Random, mixture: tuple[tuple[str, float], ...], max_objects: int, split: str
) -> world.CaptionedScene:
    kinds, weights = zip(*mixture)
    while True:
        item = world.sample(rng, rng.choices(kinds, weights)[0], split)
        if len(item.scene.objects) <= max_objects:
            return item


class LanguageBatches(WorldBatches):
    """Documents without images: item n is language_ids and language_mask (B, T)."""

    def __getitem__(self, index: int) -> Batch:
        config = self.config
        return language_batch(self.tokenizer, config.seed, config.split, index, config.batch_size)


def language_batch(tokenizer: Qwen2Tokenizer, seed: int, split: str, index: int, size: int) -> Batch:
    """Documents that ground a caption's objects in the picture, or describe its scene twice: to foretell the second
    text, the language model must keep what the first one says of each object, and left apart from right. One text alone
    gives it no reason to."""
    rng = random.Random(f"language-{split}-{seed}-{index}")
    kinds, weights = zip(*LANGUAGE_MIXTURE.items())
    documents = []
    for kind in rng.choices(kinds, weights, k=size):
        captioned = world.sample(rng, kind, split)
        if rng.random() < GROUNDED_SHARE:
            texts = [captioned.caption, world.ground(captioned)]
        else:
            texts = [captioned.caption, world.describe_again(rng, captioned)]
            rng.shuffle(texts)
        documents.append(texts)
    ids, mask = encode_documents(tokenizer, documents)
    return {"language_ids": ids, "language_mask": mask}


class _Indices(torch.utils.data.Sampler):
    def __init__(self, indices: range) -> None:
        self.indices = indices

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


def loader(dataset: Dataset, indices: range, workers: int) -> DataLoader:
    """Items `indices` of the dataset in order; `workers` processes make them ahead (0: in this process)."""
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=_Indices(indices),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_one_thread,
        multiprocessing_context="spawn" if workers else None,
    )


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)

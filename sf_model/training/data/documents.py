"""Documents without images: captions with labels of every number in them, and the layout that each describes.

A document is a prompt in the base's template, whose last tokens are the registers, and in some steps the layout as text
after it. Shapes: B documents, T tokens, N objects of a layout.

  input_ids (B, T)          the documents, padded on the right
  prompt_mask (B, T)        bool, True for the tokens of the prompt
  answer_mask (B, T)        bool, True for the tokens of the layout's text and its end
  registers (B, 1 + N)      places of the camera's register and the objects' registers
  said (B, N, 5)            category, colour, metres away, metres aside, octant; NaN where the caption does not say it
  shown (B, N, 9)           of the picture: box centre (2), box size (2), log depth, heading to the ray and in the world
                            as sine and cosine; NaN for objects that are not mentioned
  camera (B, 3)             height in metres, pitch and field of view in degrees
  look (B, 2)               indices of ground and sky
  is_fixed (B,)             bool, True where the caption fixes the scene
  token_owner (B, T)        0 nobody, 1 to N an object, N + 1 the camera, -100 unknown
  token_said (B, T, 5)      what has been said of the owner so far; NaN where nothing
  token_camera (B, T, 3)    what has been said of the camera so far
  layout_state (B, 1 + N, D), present (B, N) bool
  source_state (B, 1 + N, D)  only of edits: the layout before the edit. Its objects stand in the same places
  noise_seed (B,)
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

import torch

from ... import world
from ...backbones.mini import END_TOKEN
from ...models.layout import layout_state, projected_boxes
from ...world.caption_free import describe_freely
from ...world.layout_text import layout_text
from ...world.mentions import CameraMention, ObjectMention, camera_mention, object_mentions
from ...world.palette import GROUND_NAMES, SKY_NAMES
from ..bases.prompts import PromptTokens
from ..batch import Batch
from ..settings import DocumentSettings, WorldSettings
from .layouts import edited_layouts, joined_layouts, layouts_of, order_of, union_of
from .numbered import NumberedBatches, Share, noise_seeds
from .world import VALIDATION_STREAM, WorldStream, caption_mixture, sample_captioned

SAID_FIELDS, SHOWN_FIELDS, CAMERA_FIELDS = 5, 9, 3
UNKNOWN_OWNER = -100
# The kind of a caption that is an instruction.
EDIT = "edit"
# Weights of one, two, ... objects in the first steps.
EASY_OBJECTS = (1.0, 1.0)
NAN = float("nan")


@dataclass(frozen=True)
class Document:
    """One document before it is tokenised."""

    # For an edit the scene after it, with the instruction as caption.
    item: world.CaptionedScene
    has_answer: bool
    # The scene before an edit.
    source: world.Scene | None = None


class DocumentBatches(NumberedBatches):
    """Batches of documents. `objects`: of a layout."""

    def __init__(
        self,
        settings: WorldSettings,
        documents: DocumentSettings,
        tokens: PromptTokens,
        objects: int,
        share: Share,
        stream: WorldStream,
    ) -> None:
        self.settings, self.document_settings, self.tokens = settings, documents, tokens
        self.objects, self.share, self.stream = objects, share, stream
        self._group, self._group_steps = -1, list[list[world.CaptionedScene]]()

    def __getitem__(self, step: int) -> list[Batch]:
        documents = self.documents(step)
        seeds = noise_seeds(self.stream.seed, step, len(documents))
        parts = self.share.micro_batches(list(zip(documents, seeds)))
        return [self.collate([one for one, _ in part], [seed for _, seed in part]) for part in parts]

    def documents(self, step: int) -> list[Document]:
        """Those of a step, for all processes. The captions of a step have similar lengths.

        The first steps have only captions that fix a scene of one or two objects: these are learned first.
        """
        if self.is_edit(step):
            return self._edits(step)
        group, place = divmod(step, self.settings.length_buckets)
        if self._group != group:
            self._group, self._group_steps = group, self._length_buckets(group)
        share = self.document_settings.answers
        answered = math.floor((step + 1) * share) > math.floor(step * share)
        return [Document(item, answered) for item in self._group_steps[place]]

    def is_edit(self, step: int) -> bool:
        """Whether step `step` consists of edits. Such steps are evenly spread after the easy ones."""
        edits = self.settings.edits
        is_easy = step < self.document_settings.easy_steps
        return not is_easy and math.floor((step + 1) * edits) > math.floor(step * edits)

    def _edits(self, step: int) -> list[Document]:
        rng = random.Random(f"language-edits-{self.stream.split}-{self.stream.seed}-{step}")
        documents = []
        while len(documents) < self.share.batch_size:
            pair = world.sample_edit(rng, rng.choice(world.EDIT_KINDS), self.stream.split)
            item = world.CaptionedScene(pair.target, pair.instruction, EDIT, ())
            documents.append(Document(item, False, pair.source))
        return documents

    def _length_buckets(self, group: int) -> list[list[world.CaptionedScene]]:
        """`length_buckets` steps. Their captions are sorted by length into steps; then the steps are shuffled."""
        buckets, size = self.settings.length_buckets, self.share.batch_size
        rng = random.Random(f"language-{self.stream.split}-{self.stream.seed}-{group}")
        is_easy = (group + 1) * buckets <= self.document_settings.easy_steps
        items: list[world.CaptionedScene] = []
        while len(items) < buckets * size:
            items += self._free_items(rng, EASY_OBJECTS) if is_easy else self._items(rng)
        items = sorted(items[: buckets * size], key=lambda item: len(item.caption))
        steps = [items[start : start + size] for start in range(0, len(items), size)]
        rng.shuffle(steps)
        return steps

    def _items(self, rng: random.Random) -> list[world.CaptionedScene]:
        mixture = caption_mixture(self.settings.captions)
        if rng.random() < mixture["free"]:
            return self._free_items(rng, self.document_settings.free_objects)
        others = {kind: share for kind, share in mixture.items() if kind != "free"}
        return [sample_captioned(rng, others, self.settings.max_objects, self.stream.split)]

    def _free_items(self, rng: random.Random, weights: tuple[float, ...]) -> list[world.CaptionedScene]:
        """One scene, described a few times with its objects in random orders."""
        count = rng.choices(range(1, len(weights) + 1), weights)[0]
        scene = world.sample_scene(rng, self.stream.split, count=count)
        items = []
        for _ in range(self.document_settings.descriptions):
            order = rng.sample(range(count), count)
            items.append(world.CaptionedScene(scene, describe_freely(rng, scene, order)[0], "free", ()))
        return items

    def collate(self, documents: list[Document], seeds: list[int]) -> Batch:
        """One micro-batch, padded on the right."""
        rows = [self._row(document) for document in documents]
        length = max(len(row["input_ids"]) for row in rows)
        fills = {"token_owner": UNKNOWN_OWNER, "token_said": NAN, "token_camera": NAN}
        batch: Batch = {}
        for name in rows[0]:
            values = [row[name] for row in rows]
            if name in ("input_ids", "prompt_mask", "answer_mask", *fills):
                values = [_padded(value, length, fills.get(name, 0)) for value in values]
            batch[name] = torch.stack(values)
        if documents[0].source is not None:
            pairs = [edited_layouts(document.source, document.item.scene, self.objects) for document in documents]
            before, after = (joined_layouts(layouts) for layouts in zip(*pairs))
            batch["source_state"], batch["layout_state"] = layout_state(before), layout_state(after)
            return {**batch, "present": after.present > 0.5, "noise_seed": torch.tensor(seeds)}
        scenes = [document.item.scene for document in documents]
        layout = layouts_of(scenes, [order_of(document.item) for document in documents], self.objects)
        heading = torch.deg2rad(layout.heading_deg)
        turned = heading + torch.atan2(*layout.position_m.unbind(-1))
        left, top, right, bottom, near_m = projected_boxes(layout, 1.0).unbind(-1)
        shown = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top, near_m.log()]
        shown += [turned.sin(), turned.cos(), heading.sin(), heading.cos()]
        mentioned = ~batch["said"][..., :1].isnan()
        batch["shown"] = torch.where(mentioned, torch.stack(shown, dim=-1), NAN)
        batch["camera"] = layout.camera
        looks = [[GROUND_NAMES.index(scene.ground), SKY_NAMES.index(scene.sky)] for scene in scenes]
        batch["look"] = torch.tensor(looks)
        batch["is_fixed"] = torch.tensor([document.item.kind == "free" for document in documents])
        batch["layout_state"], batch["present"] = layout_state(layout), layout.present > 0.5
        batch["noise_seed"] = torch.tensor(seeds)
        return batch

    def _row(self, document: Document) -> dict[str, torch.Tensor]:
        """A document's ids, masks and labels."""
        item = document.item
        before, after = self.tokens.template.split("{}")
        text = self.tokens.template.replace("{}", item.caption)
        encoded = self.tokens.tokenizer(text, return_offsets_mapping=True)
        ids = list(encoded["input_ids"])
        prompt = len(ids)
        if document.has_answer:
            answer = layout_text(item.scene, order_of(item)) + END_TOKEN
            ids += self.tokens.tokenizer(answer)["input_ids"]
        ends = torch.tensor([end for _, end in encoded["offset_mapping"]] + [0] * (len(ids) - prompt)) - len(before)
        inside = (torch.arange(len(ids)) < prompt) & (ends <= len(item.caption))
        named = item
        if document.source is not None:
            named = replace(item, scene=union_of(document.source, item.scene))
        mentions, camera = object_mentions(named)[: self.objects], camera_mention(item)
        place = torch.arange(len(ids))
        row = {
            "input_ids": torch.tensor(ids),
            "prompt_mask": place < prompt,
            "answer_mask": place >= prompt,
            "registers": torch.arange(prompt - 1 - self.objects, prompt),
            "said": _said(named.scene, mentions, self.objects),
        }
        return row | _token_labels(row["said"], mentions, camera, item, torch.where(inside, ends, -1))

    def validation(self) -> list[Batch]:
        """Held-out captions of the same mixture, and of scenes of two objects that their captions fix."""
        count = self.settings.validation_samples
        stream = WorldStream(VALIDATION_STREAM, self.stream.seed, "held_out")
        batches = []
        for captions in (self.settings.captions, None):
            rng = random.Random(f"{VALIDATION_STREAM}-{self.stream.seed}")
            items: list[world.CaptionedScene] = []
            held_out = DocumentBatches(
                self.settings, self.document_settings, self.tokens, self.objects, Share(count, count), stream
            )
            while len(items) < count:
                items += held_out._items(rng) if captions else held_out._free_items(rng, (0.0, 1.0))[:1]
            documents = [Document(item, True) for item in items[:count]]
            batches.append(held_out.collate(documents, list(range(count))))
        return batches


def _padded(value: torch.Tensor, length: int, fill: float) -> torch.Tensor:
    missing = value.new_full((length - len(value), *value.shape[1:]), fill)
    return torch.cat([value, missing])


def _said(scene: world.Scene, mentions: list[ObjectMention], objects: int) -> torch.Tensor:
    said = torch.full((objects, SAID_FIELDS), NAN)
    for place, mention in enumerate(mentions):
        obj = scene.objects[mention.index]
        said[place, 0] = world.CATEGORY_NAMES.index(obj.category)
        if mention.color_end is not None:
            said[place, 1] = list(world.COLORS).index(obj.color)
        if mention.distance_m is not None and mention.aside_m is not None and mention.octant is not None:
            said[place, 2:] = torch.tensor([mention.distance_m, mention.aside_m, float(mention.octant)])
    return said


def _token_labels(
    said: torch.Tensor,
    mentions: list[ObjectMention],
    camera: CameraMention | None,
    item: world.CaptionedScene,
    ends: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """ends: (T,) the character at which each token of the caption ends; -1 for other tokens."""
    owner = torch.full(ends.shape, 0 if item.kind == "free" else UNKNOWN_OWNER)
    owner[ends < 0] = UNKNOWN_OWNER
    token_said = torch.full((len(ends), SAID_FIELDS), NAN)
    token_camera = torch.full((len(ends), CAMERA_FIELDS), NAN)
    for place, mention in enumerate(mentions):
        own = (ends > mention.start) & (ends <= mention.end)
        owner[own] = place + 1
        known = mention.category_end, mention.color_end, mention.distance_end, mention.aside_end, mention.octant_end
        for field, end in enumerate(known):
            if end is not None:
                token_said[own & (ends >= end), field] = said[place, field]
    if camera is not None:
        own = (ends > camera.start) & (ends <= camera.end)
        owner[own] = len(said) + 1
        scene_camera = item.scene.camera
        values = scene_camera.height_m, scene_camera.pitch_deg, scene_camera.fov_y_deg
        for field, (end, value) in enumerate(zip((camera.height_end, camera.pitch_end, camera.fov_end), values)):
            token_camera[own & (ends >= end), field] = value
    return {"token_owner": owner, "token_said": token_said, "token_camera": token_camera}

"""Documents of the language stage: what each token is labelled with, and the layout's text."""

from __future__ import annotations

import json
import random

import pytest
import torch

from sf_model import world
from sf_model.backbones.mini import CAMERA_REGISTER, END_TOKEN, object_registers
from sf_model.models.layout import layout_of
from sf_model.training.bases.number_tokens import TENTHS, WHOLE_NUMBERS, start_from_values
from sf_model.training.bases.prompts import PromptTokens
from sf_model.training.batch import Batch
from sf_model.training.data.documents import DocumentBatches
from sf_model.training.data.numbered import Share
from sf_model.training.data.world import WorldStream
from sf_model.world.caption_free import OCTANTS
from sf_model.world.layout_text import layout_text
from sf_model.world.mentions import camera_mention, object_mentions
from sf_model.world.palette import GROUND_NAMES
from tests.unit.mini_training import DUMMY, FREE, batches_of, stage_settings, world_settings

OBJECTS = DUMMY.spatialfusion.layout.objects
LATE = 1000


def tokens_of(tokens: PromptTokens, ids: torch.Tensor) -> list[str]:
    return [tokens.tokenizer.decode([index]) for index in ids.tolist()]


def free_batch(tokens: PromptTokens, step: int = LATE) -> Batch:
    settings, share = world_settings(FREE), Share(8, 8)
    documents = stage_settings("language").documents
    batches = DocumentBatches(settings, documents, tokens, OBJECTS, share, WorldStream("language", 1, "train"))
    return batches[step][0]


def test_mentions_by_hand() -> None:
    camera = world.Camera(1.4, 10.0, 51.0)
    car = world.SceneObject("car", "red", (-1.2, 8.0), 270.0, (4.0, 1.8, 1.5))
    person = world.SceneObject("person", "blue", (2.0, 5.0), 0.0, (0.5, 0.6, 1.7))
    scene = world.Scene(camera, (car, person), "grass", "clear", 0.0, 40.0)
    text = (
        "a person in blue 5.1 m away, 2.0 m to the right, facing the camera and a red car facing left, 6.0 m away, "
        "1.2 m to the left, on grass, camera 1.4 m high, tilted 10 degrees down, 51 degrees field of view"
    )
    # The distances in the text need not be the scene's: they are compared with it.
    with pytest.raises(AssertionError):
        object_mentions(world.CaptionedScene(scene, text, "free", ()))
    plain = world.CaptionedScene(scene, "a photo of a car next to a person in blue", "plain", ())
    first, second = object_mentions(plain)
    assert (first.index, plain.caption[first.start : first.end], first.color_end) == (0, "car", None)
    assert (second.index, plain.caption[second.start : second.end]) == (1, "person in blue")
    assert second.color_end == second.category_end == second.end and second.distance_m is None
    mention = camera_mention(world.CaptionedScene(scene, text, "free", ()))
    assert mention is not None
    assert text[mention.start : mention.height_end] == "camera 1.4"
    assert text[: mention.pitch_end].endswith("tilted 10 degrees down") and text[: mention.fov_end].endswith(" 51")


@pytest.mark.parametrize("kind", ["free", "plain", "view", *world.SPATIAL_KINDS])
def test_every_object_is_found_where_its_caption_names_it(kind: str) -> None:
    rng = random.Random(2)
    for _ in range(25):
        item = world.sample(rng, kind)
        mentions = object_mentions(item)
        assert [mention.start for mention in mentions] == sorted(mention.start for mention in mentions)
        assert mentions or kind == "plain"
        for mention in mentions:
            obj, text = item.scene.objects[mention.index], item.caption
            # A person is named before the colour of the clothes, everything else after its colour.
            end = mention.category_end if mention.color_end is None else max(mention.category_end, mention.color_end)
            assert text[mention.start : end].endswith(
                obj.color if mention.color_end and obj.category == "person" else obj.category
            )
            if kind == "free":
                assert text[: mention.distance_end].endswith(f" {mention.distance_m:.1f}")
                assert text[: mention.octant_end].endswith(OCTANTS[mention.octant])


def test_a_number_is_one_token_or_two_and_its_start_says_its_value(tokens: PromptTokens) -> None:
    tokenizer = tokens.tokenizer
    for number in (0, 7, 10, 99):
        assert len(tokenizer(f" {number}")["input_ids"]) == 1
        assert len(tokenizer(f" {number}.5")["input_ids"]) == 2
    vocabulary = tokenizer.get_vocab()
    words = torch.nn.init.normal_(torch.empty(len(tokenizer), 64), std=0.1)
    before = words.clone()
    start_from_values(words, vocabulary, 0.1)
    changed = (words != before).any(dim=1).nonzero()[:, 0].tolist()
    assert sorted(changed) == sorted(vocabulary[text] for text in (*WHOLE_NUMBERS, *TENTHS))
    rows = words[[vocabulary[text] for text in WHOLE_NUMBERS]]
    assert 0.05 < rows.std() < 0.2
    # Neighbours are alike, and ever less the farther they are apart.
    near = [torch.cosine_similarity(rows[40], rows[other], dim=0).item() for other in (41, 44, 60)]
    assert near[0] > 0.9 > near[1] > near[2]


def test_registers_end_the_prompt_and_hold_the_objects_in_the_order_of_their_mention(tokens: PromptTokens) -> None:
    batch = free_batch(tokens)
    layout = layout_of(batch["layout_state"], len(world.CATEGORY_NAMES))
    for row in range(8):
        ids = batch["input_ids"][row]
        texts = tokens_of(tokens, ids[batch["registers"][row]])
        assert texts == [CAMERA_REGISTER, *object_registers(OBJECTS)]
        assert batch["prompt_mask"][row].sum() == batch["registers"][row, -1] + 1
        said, present = batch["said"][row], batch["present"][row]
        assert torch.equal(~said[:, 0].isnan(), present)
        assert torch.equal(said[present, 0].long(), layout.category[row].argmax(-1)[present])
        assert torch.equal(said[present, 1].long(), layout.color[row].argmax(-1)[present])
        # Metres aside, as they are said, are those of the layout.
        assert (said[present, 3] - layout.position_m[row, present, 0]).abs().max() <= 0.0501


def test_a_token_says_whose_it_is_and_what_was_said_so_far(tokens: PromptTokens) -> None:
    batch = free_batch(tokens)
    for row in range(8):
        texts = tokens_of(tokens, batch["input_ids"][row])
        owner, said = batch["token_owner"][row], batch["token_said"][row]
        for place in range(int(batch["present"][row].sum())):
            own = (owner == place + 1).nonzero()[:, 0]
            words = "".join(texts[int(index)] for index in own)
            category, color, distance, aside, octant = batch["said"][row, place].tolist()
            assert world.CATEGORY_NAMES[int(category)] in words and list(world.COLORS)[int(color)] in words
            assert OCTANTS[int(octant)] in words
            # Nothing is known at the article, all at the end, and nothing is forgotten between.
            assert said[own[0]].isnan().all() and not said[own[-1]].isnan().any()
            assert bool(((~said[own].isnan()).int().diff(dim=0) >= 0).all())
            assert said[own[-1]].tolist() == pytest.approx([category, color, distance, aside, octant])
        camera = (owner == OBJECTS + 1).nonzero()[:, 0]
        assert batch["token_camera"][row, camera[-1]].tolist() == pytest.approx(batch["camera"][row].tolist())
        assert bool((owner[batch["registers"][row]] < 0).all())


def test_what_the_picture_shows_is_the_layout_s(tokens: PromptTokens) -> None:
    batch = free_batch(tokens)
    shown, present = batch["shown"], batch["present"]
    assert not shown[present].isnan().any() and shown[~present].isnan().all()
    assert bool((shown[present][:, :2] > -0.2).all()) and bool((shown[present][:, :2] < 1.2).all())
    for first, second in ((5, 6), (7, 8)):
        torch.testing.assert_close(shown[present][:, [first, second]].norm(dim=1), torch.ones(int(present.sum())))
    assert bool((batch["look"][:, 0] < len(GROUND_NAMES)).all())


def test_some_documents_end_with_their_layout_as_text(tokens: PromptTokens) -> None:
    answered = 0
    for step in range(LATE, LATE + 8):
        batch = free_batch(tokens, step)
        if not batch["answer_mask"].any():
            continue
        answered += 1
        for row in range(8):
            text = tokens.tokenizer.decode(batch["input_ids"][row][batch["answer_mask"][row]])
            assert text.endswith(END_TOKEN)
            layout = json.loads(text.removesuffix(END_TOKEN))
            assert layout["version"] == 1 and len(layout["objects"]) == int(batch["present"][row].sum())
            x, z = layout["objects"][0]["position_m"]
            slope = batch["layout_state"][row, 1, 1].item() * 0.3
            assert abs(x - slope * z) < 0.06 * (1 + abs(slope))
            category = world.CATEGORY_NAMES[int(batch["said"][row, 0, 0])]
            assert layout["objects"][0]["shape"] == category
    assert answered == 2


def test_a_layout_s_text_is_its_own_tokens_back(tokens: PromptTokens) -> None:
    """No token of it takes a space that would be lost."""
    rng = random.Random(4)
    for _ in range(20):
        scene = world.sample_scene(rng)
        text = layout_text(scene, range(len(scene.objects)))
        assert tokens.tokenizer.decode(tokens.tokenizer(text)["input_ids"]) == text
        size = json.loads(text)["objects"][0]["size_m"]
        length, width, height = scene.objects[0].size_m
        assert size == pytest.approx([width, height, length], abs=0.0051)


def test_edits_have_the_layout_before_and_no_scene_to_say(tokens: PromptTokens) -> None:
    batch = batches_of("language", tokens, edits=1.0)[LATE][0]
    assert batch["source_state"].shape == batch["layout_state"].shape
    assert "shown" not in batch and not batch["answer_mask"].any()
    differing = (batch["source_state"] - batch["layout_state"]).abs().amax(-1)[:, 1:] > 1e-6
    assert bool((differing.sum(1) == 1).all())
    assert "source_state" not in batches_of("language", tokens, edits=1.0)[0][0]


def test_the_first_steps_have_one_or_two_objects_that_the_caption_fixes(tokens: PromptTokens) -> None:
    batch = batches_of("language", tokens)[0][0]
    assert bool(batch["is_fixed"].all()) and int(batch["present"].sum(1).max()) <= 2

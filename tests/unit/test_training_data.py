"""What the Mini is trained on: batches of the synthetic world, and its tokenizer."""

import json
import math
import random
from pathlib import Path

import pytest
import torch

from sf_model import world
from sf_model.training.bases.prompts import PromptTokens
from sf_model.training.data.numbered import Share
from sf_model.training.data.world import WorldStream, caption_mixture, cell_labels
from sf_model.training.settings import LateSettings
from sf_model.training.sheets import in_sheet_batches
from tests.unit.mini_training import CELL_PX, FREE, PLAIN, SPATIAL, batches_of, world_batches


def test_the_labels_of_cells_by_hand() -> None:
    """A cell is of the object that covers most of it, if that is a fifth; beyond the names where none does."""
    scene = world.sample_scene(random.Random(0), "train", count=2)
    first, second = ((world.CATEGORY_NAMES.index(o.category), world.COLORS.index(o.color)) for o in scene.objects)
    none = (len(world.CATEGORY_NAMES), len(world.COLORS))
    index = torch.full((1, 4, 12), -1)
    index[0, :2, 8:] = -2
    index[0, 0, :3] = 0  # 3 of 16 pixels: not enough
    index[0, :, 4:8], index[0, :1, 4:8] = 1, 0
    index[0, 2, 8:] = 0  # a quarter
    category, color = cell_labels(index, [scene], 4)
    assert list(zip(category[0, 0].tolist(), color[0, 0].tolist())) == [none, second, first]


def test_the_shares_of_captions_by_hand() -> None:
    """What three kinds leave goes evenly to GenSpace's nine sub-domains."""
    mixture = caption_mixture(SPATIAL)
    assert (mixture["plain"], mixture["view"], mixture["free"]) == (0.1, 0.15, 0.4)
    assert [mixture[kind] for kind in world.SPATIAL_KINDS] == pytest.approx([0.35 / 9] * 9)
    assert sum(caption_mixture(PLAIN).values()) == 1.0


def test_scenes_of_too_many_objects_are_drawn_again(tokens: PromptTokens) -> None:
    few = world_batches(tokens, PLAIN, max_objects=1)
    assert {len(item.scene.objects) for step in range(8) for item in few.captioned(step)} == {1}


@pytest.mark.parametrize("stage", ["language", "image", "source"])
def test_batches_are_a_function_of_seed_and_step(stage: str, tokens: PromptTokens) -> None:
    """Whatever was asked for before, and however a step is spread over processes and micro-batches."""
    first, again = (batches_of(stage, tokens) for _ in range(2))
    again[0]
    (third,), (other,) = first[3], first[4]
    (thrice,) = again[3]
    assert all(torch.equal(value.nan_to_num(7), thrice[key].nan_to_num(7)) for key, value in third.items())
    name = "input_ids" if stage == "language" else "rgb"
    assert third[name].shape != other[name].shape or not torch.equal(third[name], other[name])
    halves = [part for rank in range(2) for part in batches_of(stage, tokens, Share(4, 1, rank, 2))[3]]
    assert len(halves) == 4
    for key, value in third.items():
        for row, half in enumerate(halves):
            # What stands alone is padded less.
            kept = tuple(slice(0, length) for length in half[key].shape[1:])
            assert torch.equal(half[key][0].nan_to_num(7), value[row][kept].nan_to_num(7)), key


def test_the_samples_of_a_step_are_split_evenly_or_not_at_all() -> None:
    assert Share(8, 2, 1, 2).micro_batches(list(range(8))) == [[4, 5], [6, 7]]
    with pytest.raises(ValueError, match="change batch_size or micro_batch: 6 is no multiple of 2 processes x micro"):
        Share(6, 2, 0, 2)


def test_batches_take_their_image_sizes_by_turns(tokens: PromptTokens) -> None:
    data = world_batches(tokens, image_sizes=(24, 24, 16))
    assert [data[step][0]["rgb"].shape[-2:] for step in range(4)] == [(24, 24), (24, 24), (16, 16), (24, 24)]
    assert data[2][0]["depth_m"].shape[-2:] == (16, 16)


def test_the_last_part_of_a_stage_has_sizes_and_edits_of_its_own(tokens: PromptTokens) -> None:
    data = world_batches(tokens, image_sizes=(16,), late=LateSettings(4, (24, 32), 0.5))
    assert [data.image_size(step) for step in range(8)] == [16, 16, 16, 16, 24, 32, 24, 32]
    assert [data.is_edit(step) for step in range(8)] == [False, False, False, False, False, True, False, True]
    assert data[5][0]["source"].shape[-2:] == (32, 32)


def test_pictures_can_be_rendered_where_the_training_is(tokens: PromptTokens) -> None:
    """The same ones; a worker then only draws scenes and captions."""
    for edits, cell_px in ((0.0, CELL_PX), (1.0, None)):
        expected = world_batches(tokens, edits=edits, cell_px=cell_px)[0][0]
        data = world_batches(tokens, edits=edits, cell_px=cell_px, render_on="device")
        (batch,) = data[0]
        assert "rgb" not in batch and "depth_m" not in batch
        batch = data.on_device(batch, torch.device("cpu"))
        assert batch.keys() == expected.keys()
        assert all(torch.equal(value, expected[name]) for name, value in batch.items())
        assert all("rgb" in data.on_device(one, torch.device("cpu")) for one in data.validation())


def test_a_limited_set_is_the_same_for_every_run_and_every_epoch_shows_it_once(tokens: PromptTokens) -> None:
    def captions(steps: range, stream: WorldStream | None = None, **changes: object) -> list[str]:
        data = world_batches(tokens, changes.pop("captions", SPATIAL), stream, **{"scenes": 16, **changes})
        return [item.caption for step in steps for item in data.captioned(step)]

    first, second = captions(range(4)), captions(range(4, 8))
    assert len(set(first)) == 16 and sorted(first) == sorted(second) and first != second
    other = captions(range(4), WorldStream("stage2", 5, "train"))
    assert sorted(other) == sorted(first) and other != first
    assert set(captions(range(2), scenes=8)) < set(first)
    # Nothing that a stage has of its own changes the set.
    assert sorted(captions(range(4), captions=PLAIN, max_objects=1, image_sizes=(16,))) == sorted(first)


def test_steps_of_edits_are_a_share_of_all(tokens: PromptTokens) -> None:
    data = world_batches(tokens, edits=0.4)
    assert [data.is_edit(step) for step in range(10)] == [False, False, True, False, True] * 2
    (batch,), examples = data[2], data.examples(2)
    assert torch.equal(batch["rgb"], world.render([example.scene for example in examples], 32, 32).rgb)
    assert torch.equal(batch["source"], world.render([example.source for example in examples], 32, 32).rgb)
    assert "source" not in data[1][0]
    assert data.examples(2) != data.examples(4)


def test_held_out_samples_have_no_edits_and_times_of_their_own(tokens: PromptTokens) -> None:
    """Ten samples in batches of four, four and two; their times are spread over all of them."""
    data = world_batches(tokens, FREE, edits=0.5, validation_samples=10, cell_px=CELL_PX)
    batches = data.validation()
    assert [len(batch["rgb"]) for batch in batches] == [4, 4, 2]
    assert not any("source" in batch for batch in batches) and all("category" in batch for batch in batches)
    times = torch.cat([batch["sheet_time"] for batch in batches])
    torch.testing.assert_close(times, (torch.arange(10) + 0.5) / 10)
    assert not torch.equal(batches[0]["rgb"], data[0][0]["rgb"])
    assert all(math.isfinite(value) for batch in batches for value in batch["fov_y_deg"].tolist())


def test_sheets_hold_no_more_at_once_than_training_does() -> None:
    """At least two, so that a sample has another's depth to try; at most eight."""
    assert [len(part) for part in in_sheet_batches(list(range(5)), 1)] == [2, 3]
    assert [len(part) for part in in_sheet_batches(list(range(7)), 3)] == [3, 4]
    assert [len(part) for part in in_sheet_batches(list(range(20)), 32)] == [8, 8, 4]
    assert [len(part) for part in in_sheet_batches([0], 4)] == [1]


def test_tokenizer_directory_has_nothing_that_transformers_4_refuses(tokenizer_dir: Path) -> None:
    config = json.loads((tokenizer_dir / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert not isinstance(config.get("extra_special_tokens"), list)
    assert {name for name in ("vocab.json", "merges.txt") if (tokenizer_dir / name).exists()} == {
        "vocab.json",
        "merges.txt",
    }


def test_tokenizer_keeps_every_text(tokens: PromptTokens) -> None:
    tokenizer = tokens.tokenizer
    text = "a red car, Gr\u00fc\u00dfe \u732b (x)"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    ids, mask = tokens.batch(["a red car", ""], is_edit=False)
    assert tokenizer.decode(ids[1, : mask[1].sum()]) == tokens.template.replace("{}", "")
    assert not ids[~mask].any()

"""What the Mini is trained on: batches of the synthetic world, and its tokenizer."""

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sf_model.training.tokenizer import encode_prompts, load_tokenizer

from sf_model import world
from sf_model.training.data.world import (
    PLAIN_MIXTURE,
    SPATIAL_MIXTURE,
    WorldBatches,
    WorldDataConfig,
    cell_labels,
    language_batch,
)
from tests.unit.mini_training import data_config


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


def test_documents_tell_a_scene_twice(tokenizer_dir: Path) -> None:
    """Each is two prompts in the template: a caption and where its objects are, or two texts that fix one scene, with
    the same numbers in both."""
    tokenizer = load_tokenizer(tokenizer_dir)
    batch = language_batch(tokenizer, 0, "train", 0, 128)
    documents = [tokenizer.decode(ids[mask]) for ids, mask in zip(batch["language_ids"], batch["language_mask"])]
    both_fix = grounded = 0
    for document in documents:
        first, second = re.findall(r"<\|im_start\|>(.*?)<\|im_end\|>", document)
        names = re.findall(r"(an? [a-z ]+) \d\d \d\d \d\d \d\d \d+\.\d m", second)
        if names:
            grounded += 1
            assert all(name.removeprefix("a ").removeprefix("an ").split()[-1] in first for name in names)
        elif all("field of view" in text for text in (first, second)):
            both_fix += 1
            numbers, again = (
                sorted(re.findall(r"\d+(?:\.\d)? (?:m to the \w+|m|degrees)", t)) for t in (first, second)
            )
            assert numbers == again
    assert 70 < grounded < 110  # GROUNDED_SHARE is 0.7
    assert 3 < both_fix < 25  # LANGUAGE_MIXTURE has 0.3 of them among the rest


def test_scenes_of_too_many_objects_are_drawn_again(tokenizer_dir: Path) -> None:
    few = WorldBatches(replace(data_config({"plain": 1.0}), max_objects=1), tokenizer_dir)
    assert {len(item.scene.objects) for index in range(8) for item in few.captioned(index)} == {1}


def test_batches_are_a_function_of_seed_and_index(tokenizer_dir: Path) -> None:
    first, again = (WorldBatches(data_config(dict(SPATIAL_MIXTURE)), tokenizer_dir) for _ in range(2))
    again[0]
    assert all(torch.equal(value, again[3][key]) for key, value in first[3].items())
    assert not torch.equal(first[3]["rgb"], first[4]["rgb"])


def test_batches_take_their_image_sizes_by_turns(tokenizer_dir: Path) -> None:
    data = WorldBatches(replace(data_config(dict(SPATIAL_MIXTURE)), image_sizes=(24, 24, 16)), tokenizer_dir)
    assert [data[index]["rgb"].shape[-2:] for index in range(4)] == [(24, 24), (24, 24), (16, 16), (24, 24)]
    assert data[2]["depth_m"].shape[-2:] == (16, 16)


def test_a_limited_set_is_the_same_for_every_run_and_every_epoch_shows_it_once(tokenizer_dir: Path) -> None:
    limited = replace(data_config(dict(SPATIAL_MIXTURE)), scenes=16)

    def captions(config: WorldDataConfig, batches: range) -> list[str]:
        data = WorldBatches(config, tokenizer_dir)
        return [item.caption for index in batches for item in data.captioned(index)]

    first, second = captions(limited, range(4)), captions(limited, range(4, 8))
    assert len(set(first)) == 16 and sorted(first) == sorted(second) and first != second
    other = captions(replace(limited, stream="stage2", seed=5), range(4))
    assert sorted(other) == sorted(first) and other != first
    assert set(captions(replace(limited, scenes=8), range(2))) < set(first)
    # Nothing that a stage has of its own changes the set.
    own = replace(limited, mixture=tuple(PLAIN_MIXTURE.items()), max_objects=1, image_sizes=(16,))
    assert sorted(captions(own, range(4))) == sorted(first)
    for wrong in ({"scenes": -1}, {"scenes": 16, "edits": 0.5}):
        with pytest.raises(ValueError, match="positive number of scenes, and no edits"):
            replace(limited, **wrong)


def test_batches_of_edits_are_a_share_of_all(tokenizer_dir: Path) -> None:
    data = WorldBatches(replace(data_config(dict(SPATIAL_MIXTURE)), edits=0.4), tokenizer_dir)
    assert [data.is_edit(index) for index in range(10)] == [False, False, True, False, True] * 2
    batch, pairs = data[2], data.edit_pairs(2)
    assert torch.equal(batch["rgb"], world.render([pair.target for pair in pairs], 32, 32).rgb * 2 - 1)
    assert torch.equal(batch["source"], world.render([pair.source for pair in pairs], 32, 32).rgb)
    assert "source" not in data[1]
    assert data.edit_pairs(2) != data.edit_pairs(4)


def test_tokenizer_directory_has_nothing_that_transformers_4_refuses(tokenizer_dir: Path) -> None:
    config = json.loads((tokenizer_dir / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert not isinstance(config.get("extra_special_tokens"), list)
    assert {name for name in ("vocab.json", "merges.txt") if (tokenizer_dir / name).exists()} == {
        "vocab.json",
        "merges.txt",
    }


def test_tokenizer_keeps_every_text(tokenizer_dir: Path) -> None:
    tokenizer = load_tokenizer(tokenizer_dir)
    text = "a red car 2.5 m away, Gr\u00fc\u00dfe \u732b (x)"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    ids, mask = encode_prompts(tokenizer, ["a red car", ""])
    assert ids[1, : mask[1].sum()].tolist() == [1, 2]  # the template's two special tokens
    assert not ids[~mask].any()

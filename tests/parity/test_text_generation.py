"""What the language models of the host's text encoders are asked, and that they answer: real classes, tiny weights."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

REQUEST = 'Place {"things"} (in metres): a red chair'


def seen_text(clip: Any, generation: ModuleType, image: torch.Tensor | None = None) -> str:
    """What the language model gets, with <image> for a picture."""
    family = generation._family(clip)
    text = generation._wrapped(clip, family, REQUEST, image)
    rows = next(iter(clip.tokenize(text, **generation._options(clip, family, image)).values()))
    assert len(rows) == 1
    parts, run = [], []
    for token, *_ in rows[0]:
        if isinstance(token, int):
            run.append(token)
        else:
            parts += [clip.tokenizer.decode(run, skip_special_tokens=False), f"<{token['type']}>"]
            run = []
    return "".join([*parts, clip.tokenizer.decode(run, skip_special_tokens=False)])


def test_qwen3_is_asked_without_thinking(nodes: ModuleType, tiny_bases: ModuleType, tmp_path: Path) -> None:
    generation = nodes.runtime.text_generation
    clip = tiny_bases.load_clip("z_image", tmp_path)
    generation.check_can_generate(clip)
    assert not generation.sees_images(clip)
    assert seen_text(clip, generation) == (
        f"<|im_start|>user\n{REQUEST}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )


def test_a_family_that_sees_is_asked_with_the_picture_and_not_to_describe_it(
    nodes: ModuleType, tiny_bases: ModuleType, tmp_path: Path
) -> None:
    """By the tokenizer of Qwen-Image, whose own template would ask for a description."""
    generation = nodes.runtime.text_generation
    clip = tiny_bases.load_clip("qwen_image", tmp_path)
    assert generation.sees_images(clip)
    answer = "<|im_end|>\n<|im_start|>assistant\n"
    assert seen_text(clip, generation) == f"<|im_start|>user\n{REQUEST}{answer}"
    picture = torch.rand(1, 56, 56, 3)
    assert seen_text(clip, generation, picture) == (
        f"<|im_start|>user\n<|vision_start|><image><|vision_end|>{REQUEST}{answer}"
    )


@torch.no_grad()
def test_answers_follow_the_seed_and_end(nodes: ModuleType, tiny_bases: ModuleType, tmp_path: Path) -> None:
    generation = nodes.runtime.text_generation
    clip = tiny_bases.load_clip("z_image", tmp_path)
    first, again, other = (generation.generate_text(clip, REQUEST, seed, 12) for seed in (2**64 - 1, 2**64 - 1, 5))
    assert first == again != other
    # The seed after the largest one is 0.
    assert generation.generate_text(clip, REQUEST, 2**64, 12) == generation.generate_text(clip, REQUEST, 0, 12)
    longer = generation.generate_text(clip, REQUEST, 5, 24)
    assert longer.startswith(other) and len(longer) > len(other)


@pytest.mark.parametrize("kind", ["omnigen2", "qwen_image", "mini"])
def test_an_encoder_that_cannot_write_is_refused_with_those_that_can(
    nodes: ModuleType, tiny_bases: ModuleType, tmp_path: Path, kind: str
) -> None:
    generation = nodes.runtime.text_generation
    clip = nodes.mini.clip.load_mini_clip() if kind == "mini" else tiny_bases.load_clip(kind, tmp_path)
    if kind == "mini" and hasattr(clip.tokenizer, "layout_request"):
        generation.check_can_generate(clip)  # a Mini that was trained to write layouts
        return
    with pytest.raises(ValueError, match=r"connect the text encoder of Z-Image \(Qwen3-4B\).*cannot write text"):
        generation.check_can_generate(clip)


def test_an_encoder_with_its_own_request_is_asked_by_it(
    nodes: ModuleType, tiny_bases: ModuleType, tmp_path: Path
) -> None:
    generation = nodes.runtime.text_generation
    clip = tiny_bases.load_clip("z_image", tmp_path)
    assert generation.own_request(clip) is None
    clip.tokenizer.layout_request = "{prompt} ->"
    assert generation.own_request(clip) == "{prompt} ->"
    # The tokenizer's own template is around it.
    assert seen_text(clip, generation) == f"<|im_start|>user\n{REQUEST}<|im_end|>\n<|im_start|>assistant\n"

"""Keys and values are those of one pass, or there is an error that says what to connect."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch


@torch.no_grad()
def test_a_clip_that_leaves_its_language_model_out_is_refused(
    nodes: ModuleType, tiny_bases: ModuleType, tmp_path: Path
) -> None:
    capture = nodes.runtime.prompt_capture
    clip = tiny_bases.load_clip("omnigen2", tmp_path)
    path = "qwen25_3b.transformer.model"
    with pytest.raises(ValueError, match="connect the CLIP of a stock loader.*no keys and values"):
        capture._record(clip, path, lambda _: [])
    encoded = capture.encode_prompt(clip, path, "a red chair")
    assert len(encoded.keys_values) == tiny_bases.MLLM_SIZES["omnigen2"]["num_hidden_layers"]


@torch.no_grad()
def test_the_model_keeps_nothing_of_a_prompt(nodes: ModuleType, tiny_bases: ModuleType, tmp_path: Path) -> None:
    """The host leaves the recorder on the model; encoding goes on by it."""
    capture = nodes.runtime.prompt_capture
    clip = tiny_bases.load_clip("omnigen2", tmp_path)
    path = "qwen25_3b.transformer.model"
    encoded = capture.encode_prompt(clip, path, "a red chair")
    recorder = clip.cond_stage_model.get_submodule(path).forward
    assert isinstance(recorder, capture.KeysValuesRecorder)
    again = clip.encode_from_tokens_scheduled(clip.tokenize("a red chair"))
    assert torch.equal(again[0][0], encoded.conditioning[0][0])
    assert recorder.stop() == []

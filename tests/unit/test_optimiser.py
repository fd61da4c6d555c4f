"""What the optimiser decays, and its learning rate, by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn as nn

from sf_model.scene_reader.network import SceneReader
from sf_model.training.optimiser import build_optimiser, learning_rate, trainable_parameters
from sf_model.training.settings import STAGE_NAMES
from tests.unit.mini_training import build_stage, loop_settings
from tests.unit.readers import TINY_READER


def decayed_names(module: nn.Module) -> tuple[set[str], set[str]]:
    """Names of the parameters that are decayed, and of those that are not."""
    parameters = trainable_parameters(module)
    names = {id(value): name for name, value in parameters.items()}
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for group in build_optimiser(module, loop_settings(4)).param_groups:
        found[group["weight_decay"] > 0] |= {names[id(value)] for value in group["params"]}
    assert found[True] | found[False] == parameters.keys()
    return found[True], found[False]


def test_only_matrices_are_decayed(tokenizer_dir: Path) -> None:
    """Of all parts of the system: no norm, no bias, no embedding of words, queries, camera or reference images."""
    for name in STAGE_NAMES:
        stage = build_stage(name, tokenizer_dir)
        decayed, kept = decayed_names(stage)
        layers = dict(stage.named_modules())
        for parameter in decayed:
            module = layers[parameter.rpartition(".")[0]]
            assert isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)), parameter
            assert parameter.endswith(".weight")
        of_embeddings = {n for n, value in trainable_parameters(stage).items() if n in kept and value.ndim > 1}
        assert {n.removeprefix("system.").removesuffix(".weight") for n in of_embeddings} == {
            "autoencoder": set(),
            "language": {"base.text_encoder.model.embed_tokens", "predictor.layout.slots", "predictor.layout.source"},
            "image": set(),
            "source": {"predictor.source_encoder.layout_reader.slots"},
            "stage1": {
                "predictor.spatial_transformer.queries",
                "predictor.spatial_transformer.camera",
                "predictor.layout_encoder.absent",
            },
            "stage2": {
                "predictor.spatial_transformer.queries",
                "predictor.spatial_transformer.camera",
                "predictor.layout_encoder.absent",
                "base.transformer.image_index_embedding",
            },
        }[name]


def test_the_reader_s_positions_are_not_decayed() -> None:
    decayed, kept = decayed_names(SceneReader(TINY_READER))
    assert "position" in kept and "transformer.layers.0.self_attn.in_proj_weight" in decayed


def test_decay_moves_a_matrix_and_no_embedding() -> None:
    """Without a gradient AdamW's step is the decay alone: 1e-3 x 0.5 of each value."""
    module = nn.ModuleDict({"linear": nn.Linear(2, 2), "words": nn.Embedding(3, 2), "norm": nn.LayerNorm(2)})
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    loop = replace(loop_settings(4), learning_rate=1e-3, weight_decay=0.5, matrix_rate=None)
    optimiser = build_optimiser(module, loop)
    for value in module.parameters():
        value.grad = torch.zeros_like(value)
    optimiser.step()
    for name, value in module.named_parameters():
        shrunk = 1 - 5e-4 if name == "linear.weight" else 1.0
        torch.testing.assert_close(value.detach(), before[name] * shrunk, rtol=1e-6, atol=0)


def test_the_rate_warms_up_stays_and_falls_to_a_fiftieth() -> None:
    loop = replace(loop_settings(10), learning_rate=1.0, warmup_steps=2, decay_steps=4)
    rates = [learning_rate(loop, step) for step in range(10)]
    assert rates[:6] == [0.5, 1, 1, 1, 1, 1]
    # Of 4 steps of decay a quarter less each: 0.02 + 0.98 x 3/4, and so on.
    assert rates[6:] == pytest.approx([0.755, 0.51, 0.265, 0.02])

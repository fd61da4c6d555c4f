"""Muon and AdamW in one optimiser, against torch's own of each."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn as nn

from sf_model.training.muon import MuonAdamW, orthogonal
from sf_model.training.optimiser import build_optimiser, set_rates
from tests.unit.mini_training import loop_settings

SHAPES = [(24, 8), (8, 24), (24, 8), (6, 6)]


def matrices(seed: int) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def with_gradients(parameters: list[nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for value in parameters:
        value.grad = torch.randn(value.shape, generator=generator)


def test_all_singular_values_become_about_one() -> None:
    generator = torch.Generator().manual_seed(0)
    spread = torch.diag_embed(torch.tensor([[3.0, 1.0, 0.3, 0.1]]))
    turned = torch.linalg.qr(torch.randn(1, 9, 4, generator=generator)).Q @ spread
    values = torch.linalg.svdvals(orthogonal(turned))
    assert values.min() > 0.6 and values.max() < 1.3


def test_muon_s_steps_are_torch_s() -> None:
    """torch computes the same in bfloat16. Only this rounding differs: 1% of a step."""
    muon = getattr(torch.optim, "Muon", None)
    if muon is None:
        pytest.fail("update torch to 2.9 or later in the environment of the tests: it has no torch.optim.Muon")
    ours, theirs = matrices(1), matrices(1)
    first = MuonAdamW([{"params": ours, "matrices": True}], lr=0.02, betas=(0.9, 0.95), weight_decay=0.1)
    second = muon(theirs, lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=True, adjust_lr_fn="original")
    for step in range(3):
        before = [value.detach().clone() for value in theirs]
        for parameters, optimiser in ((ours, first), (theirs, second)):
            with_gradients(parameters, step)
            optimiser.step()
        for own, expected, old in zip(ours, theirs, before):
            moved = (expected - old).norm()
            assert (own - expected).norm() < 0.03 * (step + 1) * moved


def test_everything_else_takes_adamw_s_steps() -> None:
    ours, theirs = matrices(2), matrices(2)
    settings = {"lr": 0.01, "betas": (0.9, 0.95), "weight_decay": 0.1}
    first, second = MuonAdamW([{"params": ours}], **settings), torch.optim.AdamW(theirs, **settings)
    for step in range(4):
        for parameters, optimiser in ((ours, first), (theirs, second)):
            with_gradients(parameters, step)
            optimiser.step()
    for own, expected in zip(ours, theirs):
        torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-7)


class Tiny(nn.Module):
    """Two layers as transformers name theirs, an embedding and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.layers = nn.ModuleList(nn.ModuleDict({"mlp": nn.ModuleDict({"up": nn.Linear(4, 4)})}) for _ in range(2))
        self.head = nn.Linear(4, 2)


def test_only_the_layers_matrices_are_muon_s_and_each_rate_warms_up() -> None:
    module = Tiny()
    rates = {"learning_rate": 0.004, "matrix_rate": 0.02, "warmup_steps": 2}
    loop = replace(loop_settings(4), **rates, weight_decay=0.1)
    optimiser = build_optimiser(module, loop)
    names = {id(value): name for name, value in module.named_parameters()}
    by_muon = {names[id(v)] for group in optimiser.param_groups if group.get("matrices") for v in group["params"]}
    assert by_muon == {"layers.0.mlp.up.weight", "layers.1.mlp.up.weight"}
    set_rates(optimiser, loop, 0)
    rates = [group["lr"] for group in optimiser.param_groups if group["matrices"]]
    others = {group["lr"] for group in optimiser.param_groups if not group["matrices"]}
    assert rates == [pytest.approx(0.01)] and others == {0.002}


def test_without_a_rate_for_matrices_it_is_adamw() -> None:
    loop = replace(loop_settings(4), matrix_rate=None)
    assert type(build_optimiser(Tiny(), loop)) is torch.optim.AdamW

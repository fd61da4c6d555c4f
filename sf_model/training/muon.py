"""Muon for the matrices of layers, AdamW for everything else, as one optimiser.

Muon (Keller Jordan et al. 2024) makes the momentum of each matrix orthogonal before it is applied, so that rare
directions learn as fast as common ones. torch.optim.Muon does this in bfloat16, which CPUs compute slowly; this one
computes in float32, and matrices of one shape together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

# A polynomial whose iteration moves all singular values to about 1.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
_EPS = 1e-7


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """The nearest (semi-)orthogonal matrices of (N, rows, columns), roughly: singular values between 0.7 and 1.2."""
    first, second, third = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + _EPS)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = first * x + (second * gram + third * gram @ gram) @ x
    return x.mT if tall else x


class MuonAdamW(torch.optim.Optimizer):
    """Groups with `matrices` True are updated by Muon, the others by AdamW.

    The step of Muon is that of torch.optim.Muon with `adjust_lr_fn="original"` and Nesterov momentum.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float],
        momentum: float = 0.95,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "momentum": momentum, "eps": eps, "weight_decay": weight_decay}
        super().__init__(groups, {**defaults, "matrices": False})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            parameters = [value for value in group["params"] if value.grad is not None]
            if not parameters:
                continue
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            if group["matrices"]:
                self._muon(parameters, group)
            else:
                self._adam(parameters, group)

    def _muon(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[torch.Tensor]] = {}
        for value in parameters:
            by_shape.setdefault(value.shape, []).append(value)
        for shape, values in by_shape.items():
            gradients = [value.grad for value in values]
            moments = [self._slot(value, "momentum") for value in values]
            torch._foreach_lerp_(moments, gradients, 1 - group["momentum"])
            ahead = torch.stack(torch._foreach_lerp(gradients, moments, group["momentum"]))
            rate = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
            torch._foreach_add_(values, list(orthogonal(ahead)), alpha=-rate)

    def _adam(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> None:
        first, second = group["betas"]
        gradients = [value.grad for value in parameters]
        means = [self._slot(value, "exp_avg") for value in parameters]
        squares = [self._slot(value, "exp_avg_sq") for value in parameters]
        counts = [self._slot(value, "step", torch.zeros(())) for value in parameters]
        torch._foreach_add_(counts, 1)
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - second)
        for value, mean, square, count in zip(parameters, means, squares, counts):
            steps = count.item()
            root = (square / (1 - second**steps)).sqrt_().add_(group["eps"])
            value.addcdiv_(mean, root, value=-group["lr"] / (1 - first**steps))

    def _slot(self, value: torch.Tensor, name: str, start: torch.Tensor | None = None) -> torch.Tensor:
        slots = self.state[value]
        if name not in slots:
            slots[name] = torch.zeros_like(value) if start is None else start
        return slots[name]

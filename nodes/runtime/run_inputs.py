"""What a sampling run is given, looked at before its first step: noise levels and encoded prompts.

The host's samplers take both as they come. Where these cannot work, its errors do not name what to change.
"""

from __future__ import annotations

from typing import Any

import comfy.model_base
import comfy.samplers
import torch


def prepare_run(guider: comfy.samplers.CFGGuider, sigmas: torch.Tensor) -> None:
    """Check the noise levels of a run that begins, and complete its encoded prompts. ValueError, with the remedy.

    sigmas: (steps + 1,). The guider's conditions are the run's own copies. To call this again changes nothing.
    """
    check_sigmas(sigmas)
    if isinstance(guider.model_patcher.model, comfy.model_base.Omnigen2):
        for conditions in guider.conds.values():
            for condition in conditions:
                _say_which_tokens(condition)


def check_sigmas(sigmas: torch.Tensor) -> None:
    """ValueError, with the remedy, for noise levels (steps + 1,) from which no image can come.

    The host's scheduler kl_optimal divides by steps - 1: one step has the level NaN. Fewer than two levels are no step,
    and leave the latent as it is.
    """
    if not bool(sigmas.isfinite().all()):
        raise ValueError(
            "set steps to 2 or more, or choose another scheduler: the scheduler gives noise levels that are no finite "
            f"numbers ({_listed(sigmas)}). kl_optimal does so for one step"
        )
    if len(sigmas) > 1 and not bool((sigmas > 0).any()):
        raise ValueError(
            "connect SIGMAS that begin above 0, such as Basic Scheduler's: no noise level of this run is above 0 "
            f"({_listed(sigmas)}), so that no step can be made"
        )


def _say_which_tokens(condition: dict[str, Any]) -> None:
    """Give a prompt without an attention mask one that leaves no token out: the host's OmniGen2 counts its tokens."""
    tokens = condition.get("cross_attn")
    if tokens is None:
        raise ValueError(
            "connect an encoded prompt to positive and negative, from Predict Metric Depth or CLIP Text Encode: one of "
            "them has no tokens, which OmniGen2 needs"
        )
    if condition.get("attention_mask") is None:
        condition["attention_mask"] = torch.ones(1, tokens.shape[1], dtype=torch.long, device=tokens.device)


def _listed(sigmas: torch.Tensor) -> str:
    shown = ", ".join(f"{value:g}" for value in sigmas[:4].tolist())
    return shown + (", ..." if len(sigmas) > 4 else "")

"""Planning: from the words of a prompt to a layout, by a language model and by rules for what words mean."""

from .planner import (
    ATTEMPTS,
    MAX_TOKENS,
    SAMPLING,
    Plan,
    PlanningError,
    correct_layout,
    default_instructions,
    plan_layout,
    request_text,
)

__all__ = [
    "ATTEMPTS",
    "MAX_TOKENS",
    "SAMPLING",
    "Plan",
    "PlanningError",
    "correct_layout",
    "default_instructions",
    "plan_layout",
    "request_text",
]

"""What the SPATIALFUSION_LAYOUT socket carries: a layout, its text, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from ...sf_model.scaffold.layout import Layout
from ...sf_model.scaffold.layout_reading import ReadLayout, read_layout


@dataclass(frozen=True)
class NoLayout:
    """In place of a layout that a node cannot give. It is an error for the nodes that need one, and for no others."""

    # Remedy first.
    reason: str

    def __str__(self) -> str:
        return self.reason


def read_given(value: Layout | NoLayout | str) -> ReadLayout:
    """The layout of a layout input, with notes on what was assumed. ValueError for anything else."""
    if isinstance(value, str):
        return read_layout(value)
    if isinstance(value, NoLayout):
        raise ValueError(value.reason)
    if not isinstance(value, Layout):
        raise ValueError(
            "connect a layout of Plan Scene Layout, or a layout as text: a value of type "
            f"{type(value).__name__} is connected"
        )
    return ReadLayout(value, ())

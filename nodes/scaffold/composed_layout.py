"""The layout of Compose Depth Scaffold: which of the two that a node may have is composed, and what the editor reads.

A layout arrives at a socket, or the editor of web/js/editor wrote it into a widget. The user's edit wins. The node's
results carry the layout of the socket, so that the editor can show it and take it over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from comfy_api.v0_0_2 import io

from ...sf_model.scaffold.layout import Layout
from ...sf_model.scaffold.layout_reading import read_layout
from ..inputs import SceneLayout

UI_KEY = "spatialfusion_layout"


@dataclass(frozen=True)
class ComposedLayout:
    """What is composed."""

    layout: Layout
    # What was assumed to read the edited text. Empty for what the editor writes.
    notes: tuple[str, ...] = ()


def layout_inputs() -> list[io.Input]:
    """The socket, and the text that the editor writes."""
    return [
        SceneLayout.Input(
            "layout",
            optional=True,
            tooltip="A planned scene. Its things come after the connected objects, and its camera and its ground take "
            "the place of this node's.",
        ),
        io.String.Input(
            "edited_layout",
            default="",
            optional=True,
            socketless=True,
            tooltip="The scene that was edited by hand, as JSON. The scene editor of this node writes it. It takes the "
            "place of the connected layout. Empty: nothing was edited.",
        ),
    ]


def composed_layout(layout: Layout | None, edited_layout: str | None) -> ComposedLayout | None:
    """The edited layout where there is one, else the connected one. ValueError, with the remedy, for a bad value."""
    if layout is not None and not isinstance(layout, Layout):
        raise ValueError(
            "connect a layout, as Plan Scene Layout gives it: a value of type "
            f"{type(layout).__name__} is connected to layout"
        )
    if edited_layout and edited_layout.strip():
        try:
            read = read_layout(edited_layout)
        except ValueError as error:
            raise ValueError(f"open the scene editor and start again, or empty edited_layout: {error}") from error
        return ComposedLayout(read.layout, read.notes)
    return None if layout is None else ComposedLayout(layout)


def layout_ui(connected: Layout | None, composed: ComposedLayout | None) -> dict[str, list[dict[str, Any]]]:
    """What the editor reads, under UI_KEY. Empty without a layout.

    layout: the connected layout in its strict form, or null. notes: sentences on what was assumed.
    """
    if composed is None:
        return {}
    layout = None if connected is None else connected.to_dict()
    return {UI_KEY: [{"layout": layout, "notes": list(composed.notes)}]}

"""The layouts of Compose Depth Scaffold: which of the two that a node may have is composed, and what the editor reads.

A layout arrives at a socket, or the editor of web/js/editor wrote it into a widget. The user's edit wins. The node's
results carry the layout of the socket, so that the editor can show it and take it over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from comfy_api.v0_0_2 import io

from ...sf_model.scaffold.layout import Layout
from ...sf_model.scaffold.layout_reading import ReadLayout, read_layout
from ..host.layouts import NoLayout, read_given
from ..inputs import ScaffoldLayout, layout_input

UI_KEY = "spatialfusion_layout"
NO_SCENE = NoLayout(
    "press Edit scene on Compose Depth Scaffold and place something, or connect a layout to it: connected objects and "
    "the camera's widgets are no layout"
)


def connected_layout_input() -> io.Input:
    return layout_input(
        "A scene from Plan Scene Layout, or a layout as text. Its camera and its ground replace those of the widgets, "
        "and its objects come before objects.",
        optional=True,
    )


def edited_layout_input() -> io.Input:
    """The text that the editor writes."""
    return io.String.Input(
        "edited_layout",
        default="",
        optional=True,
        socketless=True,
        tooltip="The scene that was edited by hand, as JSON. The scene editor of this node writes it. It takes the "
        "place of the connected layout. Empty: nothing was edited.",
    )


def composed_layout_output() -> io.Output:
    return ScaffoldLayout.Output(
        display_name="layout",
        tooltip="The scene of the editor, or the connected layout. For Predict Metric Depth and Layout Conditioning. "
        "Connected objects and a connected camera_info are not in it.",
    )


@dataclass(frozen=True)
class NodeLayouts:
    """The layouts that a node was given, as they were read."""

    connected: ReadLayout | None
    edited: ReadLayout | None

    @classmethod
    def of(cls, layout: Layout | NoLayout | str | None, edited_layout: str | None) -> NodeLayouts:
        """layout: of the socket. edited_layout: of the widget. ValueError, with the remedy, for a bad value."""
        edited = edited_layout if edited_layout and edited_layout.strip() else None
        if edited is None:
            return cls(None if layout is None else read_given(layout), None)
        try:
            read = read_layout(edited)
        except ValueError as error:
            raise ValueError(f"open the scene editor and start again, or empty edited_layout: {error}") from error
        return cls(_readable(layout), read)

    @property
    def composed(self) -> ReadLayout | None:
        return self.edited or self.connected

    @property
    def passed_on(self) -> Layout | NoLayout:
        """The value of the node's layout output."""
        return NO_SCENE if self.composed is None else self.composed.layout

    @property
    def notice(self) -> str | None:
        """What was assumed to read what is composed. The editor's text needs nothing to be assumed."""
        return "\n".join(self.composed.notes) or None if self.composed else None

    def ui(self) -> dict[str, list[dict[str, Any]]]:
        """What the editor reads, under UI_KEY. Empty without a layout.

        layout: the connected layout in its strict form, or null.
        """
        if self.composed is None:
            return {}
        return {UI_KEY: [{"layout": None if self.connected is None else self.connected.layout.to_dict()}]}


def _readable(layout: Layout | NoLayout | str | None) -> ReadLayout | None:
    """A connected layout that has no say: a text that is none is no error."""
    try:
        return None if layout is None else read_given(layout)
    except ValueError:
        return None

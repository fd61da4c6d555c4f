"""The layout of a prediction: what a checkpoint is given of a scene, and the scene that it drew."""

from __future__ import annotations

from dataclasses import replace

from ...sf_model.models.layout import Layout as LayoutNumbers
from ...sf_model.scaffold.layout import Layout
from ...sf_model.scaffold.layout_numbers import GivenLayout, given_layout, scene_of
from ..host.layouts import NoLayout, read_given
from .loaded_checkpoint import SpatialFusionModel


def layout_for(model: SpatialFusionModel, value: Layout | NoLayout | str, width: int, height: int) -> GivenLayout:
    """What a layout input gives, for the checkpoint and for an image of width x height pixels.

    ValueError, with the remedy, for a checkpoint without layouts, and for a layout that it does not hold.
    """
    read = read_given(value)
    if model.config.layout is None:
        raise ValueError(
            "disconnect layout, or connect it to Compose Depth Scaffold, which needs no checkpoint: checkpoint "
            f"{model.config.name!r} was trained without layouts"
        )
    given = given_layout(read.layout, model.config.layout, width, height)
    return replace(given, notes=(*read.notes, *given.notes))


def drawn_layout(model: SpatialFusionModel, numbers: LayoutNumbers | None) -> Layout | NoLayout:
    """The first of the layouts that a checkpoint drew. numbers: None if it has none."""
    if numbers is None or model.config.layout is None:
        return NoLayout(
            "choose a checkpoint with layouts, or connect Plan Scene Layout instead: checkpoint "
            f"{model.config.name!r} predicts depth without a layout"
        )
    return scene_of(numbers, model.config.layout)

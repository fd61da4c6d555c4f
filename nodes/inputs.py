"""Socket types of the pack, and the category under which its nodes are listed.

SPATIALFUSION carries a `spatialfusion_model.SpatialFusionModel`, SPATIALFUSION_OBJECTS a tuple of the frozen
`sf_model.scaffold` objects, in the order in which they were placed. Geometry travels as the host's MOGE_GEOMETRY dict,
so that the host's own nodes render and mesh it; where geometry comes in, the host's DA3_GEOMETRY is accepted as well
(`geometry.py` states both contracts).
"""

from __future__ import annotations

from comfy_api.v0_0_2 import io

CATEGORY = "SpatialFusion"
SCAFFOLD_CATEGORY = "SpatialFusion/scaffold"
# The last sentence of tooltips of inputs that take measured depth as metres.
GEOMETRY_LIMITS = (
    "The depth must be in metres: MoGe 1 and Depth Anything 3 Mono look the same, but theirs is not, and it is wrongly "
    "taken as metres."
)

# What every seed widget of the host takes.
MAX_SEED = 0xFFFFFFFFFFFFFFFF

SpatialFusion = io.Custom("SPATIALFUSION")
MoGeGeometry = io.Custom("MOGE_GEOMETRY")
DA3Geometry = io.Custom("DA3_GEOMETRY")
ScaffoldObjects = io.Custom("SPATIALFUSION_OBJECTS")


def geometry_input(
    name: str = "geometry",
    tooltip: str = f"From Predict Metric Depth, MoGe 2 or Depth Anything 3 Metric. {GEOMETRY_LIMITS}",
) -> io.MultiType.Input:
    """An input for either of the host's geometry types."""
    return io.MultiType.Input(name, types=[MoGeGeometry, DA3Geometry], tooltip=tooltip)


def seed_input(tooltip: str, *, optional: bool = False) -> io.Int.Input:
    """A seed with the host's widget that draws another after every run."""
    return io.Int.Input(
        "seed", default=0, min=0, max=MAX_SEED, control_after_generate=True, optional=optional, tooltip=tooltip
    )

"""Socket types, the categories of the nodes, and every input, output and tooltip that several nodes have.

SPATIALFUSION carries a `runtime.loaded_checkpoint.SpatialFusionModel`. SPATIALFUSION_OBJECTS carries a tuple of the
frozen `sf_model.scaffold` objects, in the order in which they were placed. SPATIALFUSION_LAYOUT carries a frozen
`sf_model.scaffold.layout.Layout`, or a `host.layouts.NoLayout`; inputs for it also take its JSON as a STRING. Geometry
travels as the host's MOGE_GEOMETRY dict, so that the host's own nodes render and mesh it. Geometry inputs also take the
host's DA3_GEOMETRY.
`host/geometry.py` describes both dicts.
"""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..sf_model.depth.lens import AXIS, DISTANCES

# The pack's menu: what a user wants to do, in the words of the README.
GENERATE_CATEGORY = "SpatialFusion/From words to depth to image"
SOURCES_CATEGORY = "SpatialFusion/Depth from elsewhere"
LOOK_CATEGORY = "SpatialFusion/Look at it"
CHANGE_CATEGORY = "SpatialFusion/Change and mix it"
BUILD_CATEGORY = "SpatialFusion/Build it"

# The largest seed that the host's own seed inputs take.
MAX_SEED = 0xFFFFFFFFFFFFFFFF
MAX_METRES = 10000.0

# The last sentence in the tooltip of an input that takes measured depth as metres.
GEOMETRY_LIMITS = (
    "The depth must be in metres. MoGe 1 and Depth Anything 3 Mono give relative depth: it looks the same and would be "
    "taken as metres."
)

# The tooltip of the geometry output of a node that shows or writes its geometry.
PASSED_ON = (
    "The same geometry, so that the node can stand between two others. One from Depth Anything 3 comes out as "
    "MOGE_GEOMETRY."
)

SpatialFusion = io.Custom("SPATIALFUSION")
MoGeGeometry = io.Custom("MOGE_GEOMETRY")
DA3Geometry = io.Custom("DA3_GEOMETRY")
ScaffoldObjects = io.Custom("SPATIALFUSION_OBJECTS")
ScaffoldLayout = io.Custom("SPATIALFUSION_LAYOUT")


def aliases(*words: str) -> list[str]:
    """The words that find a node in the host's search. The name of the pack finds every node."""
    return ["spatialfusion", *words]


def spatialfusion_input() -> io.Input:
    return SpatialFusion.Input("spatialfusion", tooltip="From Load SpatialFusion MLLM+MoT.")


def geometry_input(
    name: str = "geometry",
    tooltip: str = f"From Predict Metric Depth, MoGe 2 or Depth Anything 3 Metric. {GEOMETRY_LIMITS}",
) -> io.MultiType.Input:
    """An input for either of the host's geometry types."""
    return io.MultiType.Input(name, types=[MoGeGeometry, DA3Geometry], tooltip=tooltip)


def geometry_output(
    tooltip: str = "Metric depth with its camera, as the host's geometry nodes use it.",
) -> io.Output:
    return MoGeGeometry.Output(display_name="geometry", tooltip=tooltip)


def layout_input(tooltip: str, *, optional: bool = False) -> io.MultiType.Input:
    """An input for a layout, or for its JSON as text. `host.layouts.read_given` reads its values."""
    return io.MultiType.Input("layout", types=[ScaffoldLayout, io.String], optional=optional, tooltip=tooltip)


def seed_input(tooltip: str, *, optional: bool = False) -> io.Int.Input:
    """A seed. The host draws another one after every run."""
    return io.Int.Input(
        "seed", default=0, min=0, max=MAX_SEED, control_after_generate=True, optional=optional, tooltip=tooltip
    )


def size_inputs(default: int, maximum: int, width_tooltip: str, height_tooltip: str) -> list[io.Input]:
    """width and height of an image in pixels."""
    size = {"default": default, "min": 16, "max": maximum, "step": 8}
    return [
        io.Int.Input("width", **size, tooltip=width_tooltip),
        io.Int.Input("height", **size, tooltip=height_tooltip),
    ]


def fov_y_input(
    tooltip: str, *, default: float = 50.0, minimum: float = 1.0, maximum: float = 179.0, step: float = 0.1
) -> io.Float.Input:
    """The camera's vertical field of view in degrees."""
    return io.Float.Input("fov_y_deg", default=default, min=minimum, max=maximum, step=step, tooltip=tooltip)


def focal_length_inputs() -> list[io.Input]:
    """The focal length that may take the place of fov_y_deg."""
    focal = {"default": 0.0, "min": 0.0, "max": 100000.0, "step": 0.1, "optional": True}
    return [
        io.Float.Input(
            "focal_length_mm",
            **focal,
            tooltip="The focal length in mm on full frame, where the picture's longer side is 36 mm (Blender's "
            "default). Above 0 it takes the place of fov_y_deg.",
        ),
        io.Float.Input(
            "focal_length_px",
            **focal,
            tooltip="The focal length in pixels of this picture. Above 0 it takes the place of fov_y_deg.",
        ),
    ]


def distance_along_input() -> io.Input:
    """What measured distances are: depth, or lengths of rays."""
    return io.Combo.Input(
        "distance_along",
        options=list(DISTANCES),
        default=AXIS,
        optional=True,
        tooltip="What the distances measure. optical axis: depth, as Z passes, MoGe and most depth maps have it. ray: "
        "from the camera to the point, as some renderers and laser scanners have it. Read as depth, flat walls become "
        "bowls.",
    )


def metres_input(
    name: str,
    tooltip: str,
    *,
    default: float = 0.0,
    minimum: float = 0.0,
    maximum: float = MAX_METRES,
    advanced: bool | None = None,
) -> io.Float.Input:
    """A length in metres, in steps of 5 cm."""
    limits = {"min": minimum, "max": maximum, "step": 0.05}
    return io.Float.Input(name, default=default, **limits, tooltip=tooltip, advanced=advanced)


def share_input(
    name: str,
    tooltip: str,
    *,
    default: float,
    step: float = 0.01,
    optional: bool = False,
    advanced: bool | None = None,
) -> io.Float.Input:
    """A number from 0 to 1."""
    limits = {"min": 0.0, "max": 1.0, "step": step}
    return io.Float.Input(name, default=default, **limits, optional=optional, tooltip=tooltip, advanced=advanced)


def batch_index_input(tooltip: str, *, maximum: int) -> io.Int.Input:
    return io.Int.Input("batch_index", default=0, min=0, max=maximum, tooltip=tooltip, advanced=True)

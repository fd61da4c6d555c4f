"""The synthetic metric world: scenes, a batched ray-cast renderer and captions that are true of their scenes."""

from ..rendering.zbuffer import GROUND_INDEX, SKY_INDEX
from .caption_common import CaptionedScene, Fact, name_of
from .captions import KINDS, SPATIAL_KINDS, describe_again, sample
from .categories import CATEGORY_NAMES, HELD_OUT
from .edits import EDIT_KINDS, EditPair, sample_edit
from .palette import COLORS
from .render import Rendering, render
from .sampling import SPLITS, sample_scene
from .scene import Camera, Scene, SceneObject

__all__ = [
    "CATEGORY_NAMES",
    "COLORS",
    "EDIT_KINDS",
    "GROUND_INDEX",
    "HELD_OUT",
    "KINDS",
    "SKY_INDEX",
    "SPATIAL_KINDS",
    "SPLITS",
    "Camera",
    "CaptionedScene",
    "EditPair",
    "Fact",
    "Rendering",
    "Scene",
    "SceneObject",
    "describe_again",
    "name_of",
    "render",
    "sample",
    "sample_edit",
    "sample_scene",
]

"""Which part of the depth a latent shows: the whole, or a part that somebody tells. What cannot be known is refused.

A node that cuts an image into tiles and samples each of them calls the MODEL as often, with latents that look like
whole ones. So nobody sees at the latent that it is a tile. But the node that samples is known, and the prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..host.running import RunningNode, running_node

# In a run's transformer_options, for nodes that sample parts of an image: (left, top, width, height) of the part that
# this run draws, as shares of the whole image. It has priority over what Depth Adapter Apply says.
CROP_KEY = "spatialfusion_crop"
# Nodes of the host that cut. A latent or tile of theirs is a part whatever the image was.
_LATENT_CUTTERS = ("LatentCrop", "SplitImageToTileList")
_REMEDY = (
    "tell Depth Adapter Apply which part of its geometry is drawn, with crop_x, crop_y, crop_width and crop_height (a "
    "width and height of 1 is the whole), or leave it out of this pass"
)


@dataclass(frozen=True)
class Part:
    """A part of an image, as shares of its width and height. Raises ValueError where it is not within the image."""

    left: float = 0.0
    top: float = 0.0
    width: float = 1.0
    height: float = 1.0

    def __post_init__(self) -> None:
        within = self.left >= 0 and self.top >= 0 and self.left + self.width <= 1 + 1e-6
        if not (within and self.top + self.height <= 1 + 1e-6 and self.width > 0 and self.height > 0):
            raise ValueError(
                "set crop_x, crop_y, crop_width and crop_height to a part of the image, in shares from 0 to 1: they "
                f"are {self.left:g}, {self.top:g}, {self.width:g} and {self.height:g}"
            )


def told_part(left: float, top: float, width: float, height: float) -> Part | None:
    """The part that the inputs of Depth Adapter Apply tell. None if they tell none: width and height 0."""
    if left == top == width == height == 0:
        return None
    return Part(left, top, width, height)


def part_of_run(transformer_options: dict[str, Any], told: Part | None) -> Part:
    """The part that a sampling run draws. ValueError, with the remedy, where it is a part that nobody tells."""
    if CROP_KEY in transformer_options:
        return Part(*transformer_options[CROP_KEY])
    if told is not None:
        return told
    node = running_node()
    if node is not None:
        _check_whole(node)
    return Part()


def _check_whole(sampler: RunningNode) -> None:
    """ValueError where the node that samples, or one before it, cuts images or latents."""
    types = sampler.input_types()
    makes_latents = "IMAGE" in types.values() and not any(_may_hold_latents(kind) for kind in types.values())
    if makes_latents:
        raise ValueError(
            f"{_REMEDY}: {sampler.class_type} makes its latents of an image, and does not tell which part of the image "
            "each of them is"
        )
    models = [name for name, kind in types.items() if kind in ("MODEL", "GUIDER")]
    before_model = sampler.all_before(*models)
    latents = [name for name, kind in types.items() if kind == "LATENT"]
    for node in sampler.all_before(*latents).values():
        # What the depth was measured from may have been cut in the same way.
        if node.node_id in before_model or not _cuts(node, before_model):
            continue
        raise ValueError(f"{_REMEDY}: the latent comes from {node.class_type}, but the depth is that of the whole")


def _may_hold_latents(kind: Any) -> bool:
    return isinstance(kind, str) and ("LATENT" in kind or "PIPE_LINE" in kind or kind == "*")


def _cuts(node: RunningNode, before_model: dict[str, RunningNode]) -> bool:
    """Whether a node before the latent cuts what the depth was not cut of.

    A cut image matters only if the depth was measured from the same image before it was cut.
    """
    if node.class_type in _LATENT_CUTTERS:
        return True
    return "crop" in node.class_type.lower() and any(
        source.node_id in before_model for source in node.before(*node.inputs)
    )

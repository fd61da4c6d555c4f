"""What a depth file did not say and was assumed, in words, and what about the metres looks wrong."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..depth.lens import RAY
from ..depth.metric_depth import MAX_DEPTH_M, MetricDepth
from ..depth.summary import median, metres, range_sentence
from .units import AUTO, MILLIMETRES, Statements, StoredDepth, unit_of

# A float depth without a unit is doubted if all of it is nearer or all of it is farther than this: relative depth, or
# centimetres.
NEAR_DOUBT_M, FAR_DOUBT_M = 3.5, 30.0
# Relative depth is often scaled to a mean or median of 1.
_ONE_TOLERANCE = 0.02
_SET_UNIT = "If that is wrong, set unit or metres_per_unit"


@dataclass(frozen=True)
class LoadedDepth:
    """The depth of a file, and what the user should know about its metres."""

    depth: MetricDepth
    # Size, unit, camera and the range in metres. It begins with the doubts.
    notice: str
    # Whether the metres look wrong.
    doubtful: bool


def described(depth: MetricDepth, stored: StoredDepth, stated: Statements) -> LoadedDepth:
    """The depth with a notice. stored, stated: what it was made of."""
    doubts = _doubts(depth, stored, stated)
    count, height, width = depth.depth.shape
    degrees = depth.fov_y_deg.tolist()
    views = f"{min(degrees):.1f}" if min(degrees) == max(degrees) else f"{min(degrees):.1f} to {max(degrees):.1f}"
    sentences = [
        *doubts,
        f"{count} picture{'s' if count > 1 else ''} of {width}x{height} pixels, {_unit(stored, stated)}, "
        f"{'distances along the rays' if stated.distance == RAY else 'depth along the optical axis'}, vertical field "
        f"of view {views} degrees.",
        range_sentence(depth),
    ]
    return LoadedDepth(depth, " ".join(sentences), bool(doubts))


def _unit(stored: StoredDepth, stated: Statements) -> str:
    if stored.unit is not None:
        return f"in {stored.unit} as the file states"
    if stated.metres_per_unit > 0:
        return f"{stated.metres_per_unit:g} m a unit as set"
    if stated.unit != AUTO:
        return f"in {stated.unit} as set"
    if stored.unit_of_program is not None:
        return f"in {stored.unit_of_program[1]} as {stored.unit_of_program[0]} writes"
    return f"in {unit_of(stored, AUTO)} (assumed: the file states no unit)"


def _doubts(depth: MetricDepth, stored: StoredDepth, stated: Statements) -> list[str]:
    """A sentence for everything that looks wrong. A unit that somebody stated is believed."""
    is_stated = stored.unit is not None or stated.unit != AUTO or stated.metres_per_unit > 0
    if is_stated or stored.unit_of_program is not None or not bool(depth.valid.any()):
        return []
    if unit_of(stored, AUTO) == MILLIMETRES:
        return [
            "Check the range below: whole numbers without a unit are taken as millimetres, but some are in 1/256 m "
            f"(KITTI) or 1/5000 m (TUM). {_SET_UNIT}."
        ]
    surfaces = depth.depth[depth.valid]
    nearest, farthest = surfaces.amin().item(), surfaces.amax().item()
    mean, middle = surfaces.mean(dtype=torch.float64).item(), median(surfaces)
    close_to_one = [name for name, value in (("mean", mean), ("median", middle)) if abs(value - 1) < _ONE_TOLERANCE]
    if close_to_one:
        return [f"This may be relative depth, not metres: its {close_to_one[0]} is 1. {_SET_UNIT}."]
    if farthest < NEAR_DOUBT_M:
        return [
            f"This may be relative depth, not metres: nothing is farther than {metres(farthest)}. Compare it with a "
            f"distance that you know. {_SET_UNIT}."
        ]
    if nearest > FAR_DOUBT_M or farthest > MAX_DEPTH_M:
        what = f"farther than {metres(farthest)}" if farthest > MAX_DEPTH_M else f"nearer than {metres(nearest)}"
        return [f"This may be centimetres (Unreal Engine) or millimetres, not metres: {what} m is seldom. {_SET_UNIT}."]
    return []

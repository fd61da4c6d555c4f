"""Layouts as numbers: what the layout's flow draws, and what the spatial transformer reads of it.

A layout holds a camera and up to N objects: category, colour, place, heading and size, in metres and degrees, with the
axes of `rendering.frame`. Shapes: B batch, N objects, C categories, K colours.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F

CAMERA_NUMBERS = 3
# Besides category and colour: presence, slope and log depth of the place, sine and cosine of the heading, 3 sizes.
OBJECT_NUMBERS = 8
# Of `picture_numbers`: presence, box (4), log depth, slope, sine and cosine of the heading, 3 sizes.
PICTURE_NUMBERS = 12
# Mean and scale of the numbers in the synthetic world, so that their variance is about 1.
LOG_HEIGHT = (0.34, 0.4)
PITCH_DEG = (8.0, 7.0)
FOV_Y_DEG = (55.0, 11.5)
SLOPE = (0.0, 0.3)
LOG_DEPTH = (1.5, 0.8)
LOG_SIZE = (0.2, 0.9)
NEAREST_M = 0.05
MIN_SIZE_M = 0.01
MEANINGLESS_WEIGHT = 0.2


@dataclass(frozen=True)
class Layout:
    """B layouts."""

    # (B, N) probability in [0, 1] that the object exists.
    present: torch.Tensor
    # (B, N, C) and (B, N, K): one-hot, or scores of which the highest counts.
    category: torch.Tensor
    color: torch.Tensor
    # (B, N, 2): (x, z) of the footprint's centre.
    position_m: torch.Tensor
    # (B, N): where the front points.
    heading_deg: torch.Tensor
    # (B, N, 3): (length, width, height).
    size_m: torch.Tensor
    # (B, 3): the camera's height in metres, pitch (positive downwards) and vertical field of view in degrees.
    camera: torch.Tensor

    def to(self, device: torch.device) -> Layout:
        return Layout(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def repeated(self, count: int) -> Layout:
        """Every layout `count` times, one copy after another."""
        values = {field.name: getattr(self, field.name).repeat_interleave(count, dim=0) for field in fields(self)}
        return Layout(**values)


def state_channels(categories: int, colors: int) -> int:
    """Channels of `layout_state`."""
    return OBJECT_NUMBERS + categories + colors


def layout_state(layout: Layout) -> torch.Tensor:
    """(B, 1 + N, D): the camera, then the objects. Numbers have about unit variance; choices are +1 and -1.

    The camera uses the first CAMERA_NUMBERS channels, the rest of it is 0.
    """
    x, z = layout.position_m.unbind(-1)
    turned = torch.deg2rad(layout.heading_deg) + torch.atan2(x, z)
    numbers = [
        layout.present * 2 - 1,
        _scaled(x / z.clamp_min(NEAREST_M), SLOPE),
        _scaled(z.clamp_min(NEAREST_M).log(), LOG_DEPTH),
        turned.sin(),
        turned.cos(),
        *_scaled(layout.size_m.clamp_min(MIN_SIZE_M).log(), LOG_SIZE).unbind(-1),
    ]
    objects = torch.cat([torch.stack(numbers, dim=-1), layout.category * 2 - 1, layout.color * 2 - 1], dim=-1)
    height_m, pitch_deg, fov_y_deg = layout.camera.unbind(-1)
    camera = [_scaled(height_m.log(), LOG_HEIGHT), _scaled(pitch_deg, PITCH_DEG), _scaled(fov_y_deg, FOV_Y_DEG)]
    camera = F.pad(torch.stack(camera, dim=-1), (0, objects.shape[-1] - CAMERA_NUMBERS))
    return torch.cat([camera[:, None], objects], dim=1)


def state_weight(present: torch.Tensor, categories: int, colors: int) -> torch.Tensor:
    """(B, 1 + N, D) weights of the squared errors of a state.

    Numbers that mean nothing, those of absent objects and the camera's unused channels, count a little: while a layout
    is drawn they are inputs like the others, so they must come out as they were in training. present: (B, N) bool.
    """
    number = torch.tensor([1.0, 3.0, 3.0, 1.5, 1.5, 1.0, 1.0, 1.0], device=present.device)
    choice = torch.full((categories + colors,), 0.5, device=present.device)
    each = torch.cat([number, choice])
    is_presence = torch.arange(len(each), device=present.device) == 0
    objects = each * (present[..., None] | is_presence).float().clamp_min(MEANINGLESS_WEIGHT)
    camera = torch.full_like(each, MEANINGLESS_WEIGHT)
    camera[:CAMERA_NUMBERS] = 1.0
    return torch.cat([camera.expand(len(present), 1, -1), objects], dim=1)


def layout_of(state: torch.Tensor, categories: int) -> Layout:
    """The inverse of `layout_state`. Numbers are bounded; categories and colours stay scores."""
    state = state.float()
    camera, objects = state[:, 0, :CAMERA_NUMBERS], state[:, 1:]
    numbers, choices = objects[..., :OBJECT_NUMBERS], objects[..., OBJECT_NUMBERS:]
    presence, slope, log_depth, sine, cosine, *log_size = numbers.unbind(-1)
    z = _raw(log_depth, LOG_DEPTH).clamp(-2.0, 6.0).exp()
    x = _raw(slope, SLOPE).clamp(-10.0, 10.0) * z
    heading = torch.rad2deg(torch.atan2(sine, cosine) - torch.atan2(x, z)) % 360
    height, pitch, fov = camera.unbind(-1)
    scene_camera = [
        _raw(height, LOG_HEIGHT).clamp(-4.0, 4.0).exp(),
        _raw(pitch, PITCH_DEG).clamp(-89.0, 89.0),
        _raw(fov, FOV_Y_DEG).clamp(5.0, 150.0),
    ]
    return Layout(
        present=((presence + 1) / 2).clamp(0, 1),
        category=(choices[..., :categories] + 1) / 2,
        color=(choices[..., categories:] + 1) / 2,
        position_m=torch.stack([x, z], dim=-1),
        heading_deg=heading,
        size_m=_raw(torch.stack(log_size, dim=-1), LOG_SIZE).clamp(-4.0, 4.0).exp(),
        camera=torch.stack(scene_camera, dim=-1),
    )


def picture_numbers(layout: Layout, aspect: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a picture of a layout shows: numbers of the objects, their centres, and numbers of the camera.

    aspect: width / height of the picture. Returns (B, N, PICTURE_NUMBERS + C + K) with zeros for absent objects,
    (B, N, 2) the (row, column) of each box's centre as shares of the picture, and (B, CAMERA_NUMBERS).
    """
    left, top, right, bottom, near_m = projected_boxes(layout, aspect).unbind(-1)
    x, z = layout.position_m.unbind(-1)
    turned = torch.deg2rad(layout.heading_deg) + torch.atan2(x, z)
    present = (layout.present > 0.5).to(x.dtype)
    centre = torch.stack([(top + bottom) / 2, (left + right) / 2], dim=-1).clamp(-0.5, 1.5)
    numbers = [
        present,
        *centre.unbind(-1),
        (right - left).clamp(0, 3),
        (bottom - top).clamp(0, 3),
        _scaled(near_m.log(), LOG_DEPTH),
        _scaled(x / z, SLOPE),
        turned.sin(),
        turned.cos(),
        *_scaled(layout.size_m.clamp_min(MIN_SIZE_M).log(), LOG_SIZE).unbind(-1),
    ]
    category = F.one_hot(layout.category.argmax(-1), layout.category.shape[-1]).to(x.dtype)
    color = F.one_hot(layout.color.argmax(-1), layout.color.shape[-1]).to(x.dtype)
    objects = torch.cat([torch.stack(numbers, dim=-1), category, color], dim=-1) * present[..., None]
    return objects, centre, layout_state(layout)[:, 0, :CAMERA_NUMBERS]


def projected_boxes(layout: Layout, aspect: float) -> torch.Tensor:
    """(B, N, 5): left, top, right and bottom as shares of the picture, and the nearest corner's depth in metres.

    The boxes of the objects' bounding boxes. Corners nearer than NEAREST_M are moved there. aspect: width / height.
    """
    heading = torch.deg2rad(layout.heading_deg)
    front = torch.stack([heading.sin(), -heading.cos()], dim=-1)
    side = torch.stack([front[..., 1], -front[..., 0]], dim=-1)
    length, width, height = layout.size_m.unbind(-1)
    signs = torch.tensor([(1.0, 1.0), (1.0, -1.0), (-1.0, -1.0), (-1.0, 1.0)], device=heading.device)
    along = signs[:, 0] * (length / 2)[..., None]
    across = signs[:, 1] * (width / 2)[..., None]
    corners = layout.position_m[..., None, :] + along[..., None] * front[..., None, :]
    corners = corners + across[..., None] * side[..., None, :]
    x, z = corners.unbind(-1)
    camera_m, pitch_deg, fov_y_deg = (value[:, None, None] for value in layout.camera.unbind(-1))
    sine, cosine = torch.deg2rad(pitch_deg).sin(), torch.deg2rad(pitch_deg).cos()
    focal_y = 0.5 / torch.tan(torch.deg2rad(fov_y_deg) / 2)
    columns, rows, depths = [], [], []
    for down_m in (camera_m.expand_as(x), camera_m - height[..., None]):
        depth = (down_m * sine + z * cosine).clamp_min(NEAREST_M)
        columns.append(0.5 + focal_y / aspect * x / depth)
        rows.append(0.5 + focal_y * (down_m * cosine - z * sine) / depth)
        depths.append(depth)
    column, row, depth = (torch.cat(values, dim=-1) for values in (columns, rows, depths))
    box = [column.amin(-1), row.amin(-1), column.amax(-1), row.amax(-1), depth.amin(-1)]
    return torch.stack(box, dim=-1)


def _scaled(value: torch.Tensor, mean_and_scale: tuple[float, float]) -> torch.Tensor:
    mean, scale = mean_and_scale
    return (value - mean) / scale


def _raw(value: torch.Tensor, mean_and_scale: tuple[float, float]) -> torch.Tensor:
    mean, scale = mean_and_scale
    return value * scale + mean

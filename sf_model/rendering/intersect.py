"""Intersections of rays with five canonical solids. All are convex and inscribed in the cube [-0.5, 0.5]^3.

A ray is o + t * d, where o and d are triples of broadcastable tensors. An interval is (near, far): the ray is inside
the solid for t in [near, far], and misses it where near > far. The axis of cylinder and cone is y, with the apex at
+0.5. The prism is a gable whose ridge runs along x at y = +0.5.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Vec = tuple[Tensor, Tensor, Tensor]
Interval = tuple[Tensor, Tensor]

_TINY = 1e-12


def _nonzero(x: Tensor) -> Tensor:
    """x without magnitudes below 1e-12, so that the quotient of a ray parallel to a plane stays finite."""
    return torch.where(x.abs() < _TINY, _TINY, x)


def _slab(o: Tensor, d: Tensor) -> Interval:
    inverse = 1.0 / _nonzero(d)
    middle = -o * inverse
    half = 0.5 * inverse.abs()
    return middle - half, middle + half


def _quadratic(a: Tensor, b: Tensor, c: Tensor) -> Interval:
    """Interval where a t^2 + 2 b t + c <= 0, for a >= 0. near is inf where it is empty."""
    a = a.clamp(min=_TINY)  # keeps the interval of a ray along a cylinder's axis finite
    discriminant = b * b - a * c
    root = discriminant.clamp(min=0.0).sqrt()
    inverse = 1.0 / a
    near = torch.where(discriminant < 0, torch.inf, (-b - root) * inverse)
    return near, (root - b) * inverse


def _below(o: Tensor, d: Tensor, limit: float) -> Interval:
    """Interval where o + t d <= limit."""
    d = _nonzero(d)
    crossing = (limit - o) / d
    return torch.where(d < 0, crossing, -torch.inf), torch.where(d > 0, crossing, torch.inf)


def _both(first: Interval, second: Interval) -> Interval:
    return torch.maximum(first[0], second[0]), torch.minimum(first[1], second[1])


def box_interval(o: Vec, d: Vec) -> Interval:
    return _both(_both(_slab(o[0], d[0]), _slab(o[1], d[1])), _slab(o[2], d[2]))


def cylinder_interval(o: Vec, d: Vec) -> Interval:
    side = _quadratic(d[0] * d[0] + d[2] * d[2], o[0] * d[0] + o[2] * d[2], o[0] * o[0] + o[2] * o[2] - 0.25)
    return _both(side, _slab(o[1], d[1]))


def ellipsoid_interval(o: Vec, d: Vec) -> Interval:
    # Starts from the point nearest to the centre: b^2 - a c loses digits when the camera is far from a small solid.
    a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    closest = -(o[0] * d[0] + o[1] * d[1] + o[2] * d[2]) / a
    p = tuple(o[k] + closest * d[k] for k in range(3))
    slack = (0.25 - (p[0] * p[0] + p[1] * p[1] + p[2] * p[2])) / a
    half = slack.clamp(min=0.0).sqrt()
    return torch.where(slack < 0, torch.inf, closest - half), closest + half


def cone_interval(o: Vec, d: Vec) -> Interval:
    # |xz|^2 <= (r(y))^2 with r = (0.5 - y) / 2 describes a double cone. The slab in y keeps the half below the apex.
    drop, fall = 0.5 * (0.5 - o[1]), -0.5 * d[1]
    a = d[0] * d[0] + d[2] * d[2] - fall * fall
    b = o[0] * d[0] + o[2] * d[2] - drop * fall
    c = o[0] * o[0] + o[2] * o[2] - drop * drop
    root = (b * b - a * c).clamp(min=0.0).sqrt()
    a = _nonzero(a)
    first, second = (-b - root) / a, (root - b) / a
    low, high = torch.minimum(first, second), torch.maximum(first, second)
    # A ray steeper than the cone's side enters the lower half once and stays in it.
    steep_near = torch.where(d[1] < 0, high, -torch.inf)
    steep_far = torch.where(d[1] < 0, torch.inf, low)
    empty = (a > 0) & (b * b - a * c < 0)
    near = torch.where(empty, torch.inf, torch.where(a > 0, low, steep_near))
    return _both((near, torch.where(a > 0, high, steep_far)), _slab(o[1], d[1]))


def prism_interval(o: Vec, d: Vec) -> Interval:
    low_o, low_d = 0.5 * o[1], 0.5 * d[1]
    left = _below(low_o - o[2], low_d - d[2], 0.25)
    right = _below(low_o + o[2], low_d + d[2], 0.25)
    return _both(_both(left, right), _both(_slab(o[0], d[0]), _slab(o[1], d[1])))


INTERVALS: dict[str, Callable[[Vec, Vec], Interval]] = {
    "box": box_interval,
    "cylinder": cylinder_interval,
    "ellipsoid": ellipsoid_interval,
    "cone": cone_interval,
    "prism": prism_interval,
}


def first_hit(near: Tensor, far: Tensor) -> Tensor:
    """Smallest positive ray parameter on the surface, inf for a miss. From inside it is that of the far side."""
    t = torch.where(near > 0, near, far)
    return torch.where((near <= far) & (t > 0), t, torch.inf)


def _cap_or_slope(q: Tensor, slope: Tensor, slack: Tensor) -> Tensor:
    """Normal of a solid of revolution: that of the flat cap where the point is nearer to the cap than to the side.

    slope: normal of the curved side. slack: distance to that side.
    """
    cap = torch.zeros_like(q)
    cap[:, 1] = q[:, 1].sign()
    return torch.where(((0.5 - q[:, 1].abs()) < slack)[:, None], cap, slope)


def _box_normal(q: Tensor) -> Tensor:
    axis = q.abs().argmax(dim=1, keepdim=True)
    return torch.zeros_like(q).scatter_(1, axis, q.gather(1, axis).sign())


def _cylinder_normal(q: Tensor) -> Tensor:
    side = q * q.new_tensor([1.0, 0.0, 1.0])
    return _cap_or_slope(q, side, (0.5 - side.norm(dim=1)).abs())


def _cone_normal(q: Tensor) -> Tensor:
    radius = q[:, [0, 2]].norm(dim=1)
    slope = torch.stack([q[:, 0], 0.5 * radius, q[:, 2]], dim=1)
    slack = (radius - 0.5 * (0.5 - q[:, 1])).abs()
    slack = torch.where(q[:, 1] > 0, -torch.ones_like(slack), slack)
    return _cap_or_slope(q, slope, slack)


def _prism_normal(q: Tensor) -> Tensor:
    x, y, z = q.unbind(dim=1)
    gaps = torch.stack([0.5 - x.abs(), y + 0.5, 0.25 - 0.5 * y - z.abs()], dim=1)
    zero = torch.zeros_like(x)
    faces = torch.stack(
        [
            torch.stack([x.sign(), zero, zero], dim=1),
            torch.stack([zero, zero - 1, zero], dim=1),
            torch.stack([zero, zero + 0.5, z.sign()], dim=1),
        ],
        dim=1,
    )
    nearest = gaps.abs().argmin(dim=1)
    return faces[torch.arange(len(q), device=q.device), nearest]


NORMALS: dict[str, Callable[[Tensor], Tensor]] = {
    "box": _box_normal,
    "cylinder": _cylinder_normal,
    "ellipsoid": lambda q: q,
    "cone": _cone_normal,
    "prism": _prism_normal,
}
"""Outward normals (N, 3), of any length, at points q (N, 3) on the surface of the canonical solids."""

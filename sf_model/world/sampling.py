"""Random scenes: cameras, objects of plausible size, and the checks that make a scene a good picture.

Lengths are rounded to 1 mm and angles to 1 degree (0.1 for the sun). So a scene is the same on platforms whose sine
differs in the last bit.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from ..rendering.frame import focal_lengths
from .categories import CATEGORIES, CATEGORY_NAMES, HELD_OUT
from .palette import COLORS, GROUND_NAMES, SKIES, SKY_NAMES
from .scene import Camera, Scene, SceneObject, footprint_corners

SPLITS: tuple[str, ...] = ("train", "held_out")
# Of an object's height, as shares of the picture's.
MIN_PROJECTED_HEIGHT = 0.15
MAX_PROJECTED_HEIGHT = 0.85
# Share of an object's box that lies in the frame, and that a nearer box may cover.
MIN_IN_FRAME = 0.9
MAX_OCCLUDED = 0.3
MIN_GAP_M = 0.15
_NEAREST_M = 0.3
_ATTEMPTS = 60


@dataclass(frozen=True)
class ImageBox:
    """Bounding box of an object's projection, in image coordinates from 0 to 1."""

    left: float
    top: float
    right: float
    bottom: float
    # Of the nearest corner.
    depth_m: float

    @property
    def area(self) -> float:
        return max(0.0, self.right - self.left) * max(0.0, self.bottom - self.top)

    def intersection(self, other: "ImageBox") -> "ImageBox":
        return ImageBox(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
            min(self.depth_m, other.depth_m),
        )


FRAME = ImageBox(0.0, 0.0, 1.0, 1.0, 0.0)


def uniform(rng: random.Random, low: float, high: float, digits: int = 3) -> float:
    """Uniform random number rounded to a decimal grid."""
    return round(rng.uniform(low, high), digits)


def projected_box(obj: SceneObject, camera: Camera) -> ImageBox | None:
    """The object's box in a square image. None if a corner is nearer than _NEAREST_M."""
    sin_p, cos_p = math.sin(math.radians(camera.pitch_deg)), math.cos(math.radians(camera.pitch_deg))
    fx, fy = focal_lengths(camera.fov_y_deg, aspect=1.0)
    us, vs, depths = [], [], []
    for x, z in footprint_corners(obj):
        for y in (camera.height_m, camera.height_m - obj.size_m[2]):
            depth = y * sin_p + z * cos_p
            if depth < _NEAREST_M:
                return None
            us.append(0.5 + fx * x / depth)
            vs.append(0.5 + fy * (y * cos_p - z * sin_p) / depth)
            depths.append(depth)
    return ImageBox(min(us), min(vs), max(us), max(vs), min(depths))


def is_well_framed(box: ImageBox | None) -> bool:
    """Whether an object with this box is neither too small nor too large, and mostly inside the frame."""
    if box is None:
        return False
    height = box.bottom - box.top
    return (
        MIN_PROJECTED_HEIGHT <= height <= MAX_PROJECTED_HEIGHT
        and box.intersection(FRAME).area >= MIN_IN_FRAME * box.area
    )


def _separated(first: SceneObject, second: SceneObject, gap_m: float) -> bool:
    """Whether two footprints are more than gap_m apart, by a separating-axis test."""
    ours, theirs = footprint_corners(first), footprint_corners(second)
    for heading in (first.heading_deg, second.heading_deg):
        for turn in (0.0, 90.0):
            angle = math.radians(heading + turn)
            axis = (math.sin(angle), -math.cos(angle))
            a = [p[0] * axis[0] + p[1] * axis[1] for p in ours]
            b = [p[0] * axis[0] + p[1] * axis[1] for p in theirs]
            if min(a) > max(b) + gap_m or min(b) > max(a) + gap_m:
                return True
    return False


def is_good_picture(camera: Camera, objects: tuple[SceneObject, ...]) -> bool:
    """Whether all objects are well framed, stand apart, and hide little of one another."""
    boxes: list[ImageBox] = []
    for obj in objects:
        box = projected_box(obj, camera)
        if box is None or not is_well_framed(box):
            return False
        boxes.append(box)
    for i in range(len(objects)):
        for j in range(i):
            behind = boxes[i] if boxes[i].depth_m > boxes[j].depth_m else boxes[j]
            if boxes[i].intersection(boxes[j]).area > MAX_OCCLUDED * behind.area:
                return False
            if not _separated(objects[i], objects[j], MIN_GAP_M):
                return False
    return True


def sample_camera(rng: random.Random) -> Camera:
    """Camera 0.5 to 3 m high, pitched -3 to 25 degrees down, with a vertical field of view of 35 to 75 degrees."""
    height_m = round(rng.triangular(0.5, 3.0, 1.4), 1)
    return Camera(height_m, float(round(rng.triangular(-3.0, 25.0, 7.0))), float(rng.randint(35, 75)))


def sample_look(rng: random.Random) -> tuple[str, str, float, float]:
    """Ground, sky, sun azimuth and elevation in degrees; the sun is mostly on the camera's side."""
    ground, sky = rng.choice(GROUND_NAMES), rng.choice(SKY_NAMES)
    azimuth = uniform(rng, -110.0, 110.0, 1)
    return ground, sky, azimuth % 360.0, uniform(rng, *SKIES[sky].sun_elevation_deg, 1)


def sample_size(rng: random.Random, category: str) -> tuple[float, float, float]:
    """(length, width, height) in metres within the category's ranges. Large objects are large in all three."""
    kind = CATEGORIES[category]
    scale = rng.random()
    size = []
    for low, high in (kind.length_m, kind.width_m, kind.height_m):
        size.append(round(low + (high - low) * (0.6 * scale + 0.4 * rng.random()), 3))
    return size[0], size[1], size[2]


def sample_identities(
    rng: random.Random, count: int, split: str, categories: Sequence[str] = CATEGORY_NAMES
) -> list[tuple[str, str]]:
    """`count` distinct (category, colour) pairs; "train" has no held-out pair, "held_out" at least one.

    Raises ValueError for an unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, not {split!r}")
    pairs: list[tuple[str, str]] = []
    if split == "held_out":
        pairs.append(rng.choice(sorted(pair for pair in HELD_OUT if pair[0] in categories)))
    while len(pairs) < count:
        pair = (rng.choice(categories), rng.choice(COLORS))
        if pair not in pairs and (split == "held_out" or pair not in HELD_OUT):
            pairs.append(pair)
    rng.shuffle(pairs)
    return pairs


def place_in_view(rng: random.Random, camera: Camera, size_m: tuple[float, float, float]) -> tuple[float, float]:
    """Random (x, z) in metres at which an object of this size fits into the image and is not tiny."""
    share = rng.uniform(0.22, 0.7)
    half = math.tan(math.radians(camera.fov_y_deg) / 2)
    fits_m = 0.6 * max(size_m[0], size_m[1]) / half
    z = max(0.8, size_m[2] / (2 * half * share), fits_m * rng.uniform(0.8, 1.6))
    x = rng.uniform(-0.85, 0.85) * z * half
    return round(x, 3), round(z, 3)


def sample_scene(
    rng: random.Random,
    split: str = "train",
    count: int | None = None,
    identities: Sequence[tuple[str, str]] | None = None,
) -> Scene:
    """A scene of 1 to 4 objects (mostly 1 or 2) that passes `is_good_picture`.

    identities: the objects' (category, colour) pairs; `split` and `count` are then ignored.
    """
    if identities is not None:
        count = len(identities)
    if count is None:
        count = rng.choices((1, 2, 3, 4), weights=(35, 45, 14, 6))[0]
    while True:
        pairs = sample_identities(rng, count, split) if identities is None else identities
        camera = sample_camera(rng)
        objects: tuple[SceneObject, ...] = ()
        for _ in range(_ATTEMPTS):
            category, color = pairs[len(objects)]
            size = sample_size(rng, category)
            position = place_in_view(rng, camera, size)
            candidate = (*objects, SceneObject(category, color, position, float(rng.randrange(360)), size))
            if is_good_picture(camera, candidate):
                objects = candidate
                if len(objects) == count:
                    return Scene(camera, objects, *sample_look(rng))

"""The object categories: realistic sizes in metres, and the parts of each."""

from dataclasses import dataclass

from ..rendering.category_parts import CATEGORY_PARTS
from ..rendering.parts import Extent, Part
from .palette import COLORS

SHAPES: tuple[str, ...] = ("box", "cylinder", "ellipsoid", "cone", "prism")


@dataclass(frozen=True)
class Category:
    """One kind of object. Sizes are ranges."""

    name: str
    length_m: Extent
    width_m: Extent
    height_m: Extent
    parts: tuple[Part, ...]


CATEGORIES: dict[str, Category] = {
    category.name: category
    for category in (
        Category("car", (3.6, 4.8), (1.65, 1.95), (1.35, 1.65), CATEGORY_PARTS["car"]),
        Category("bus", (7.0, 10.0), (2.3, 2.7), (2.7, 3.3), CATEGORY_PARTS["bus"]),
        Category("chair", (0.45, 0.65), (0.45, 0.65), (0.85, 1.15), CATEGORY_PARTS["chair"]),
        Category("sofa", (0.80, 1.05), (1.6, 2.3), (0.75, 1.0), CATEGORY_PARTS["sofa"]),
        Category("house", (6.0, 9.0), (6.0, 9.0), (4.5, 6.5), CATEGORY_PARTS["house"]),
        Category("person", (0.42, 0.60), (0.50, 0.65), (1.50, 1.95), CATEGORY_PARTS["person"]),
        Category("dog", (0.70, 1.10), (0.26, 0.40), (0.50, 0.80), CATEGORY_PARTS["dog"]),
        Category("robot", (0.50, 0.80), (0.60, 0.95), (1.0, 1.6), CATEGORY_PARTS["robot"]),
        Category("cabinet", (0.40, 0.65), (0.80, 1.30), (1.1, 1.9), CATEGORY_PARTS["cabinet"]),
        Category("mailbox", (0.50, 0.65), (0.28, 0.40), (1.0, 1.35), CATEGORY_PARTS["mailbox"]),
    )
}
CATEGORY_NAMES: tuple[str, ...] = tuple(CATEGORIES)

HELD_OUT: frozenset[tuple[str, str]] = frozenset(
    (name, COLORS[(3 * index + 1) % len(COLORS)]) for index, name in enumerate(CATEGORY_NAMES)
)
"""One (category, colour) pair of each category. The "train" split has none of them."""

"""Colours and materials of the world: named body colours, part roles, grounds and skies. All RGB in [0, 1]."""

from dataclasses import dataclass

Rgb = tuple[float, float, float]

BODY_COLORS: dict[str, Rgb] = {
    "red": (0.86, 0.09, 0.09),
    "orange": (1.00, 0.50, 0.05),
    "yellow": (0.98, 0.88, 0.10),
    "green": (0.10, 0.62, 0.18),
    "blue": (0.10, 0.26, 0.88),
    "purple": (0.56, 0.16, 0.72),
    "white": (0.96, 0.96, 0.96),
    "black": (0.11, 0.11, 0.12),
}
COLORS: tuple[str, ...] = tuple(BODY_COLORS)

ROLE_COLORS: dict[str, Rgb] = {
    "dark": (0.16, 0.16, 0.18),
    "glass": (0.20, 0.28, 0.36),
    "light": (1.00, 0.97, 0.72),
    "tail": (0.70, 0.02, 0.05),
    "skin": (0.96, 0.74, 0.58),
    "wood": (0.50, 0.31, 0.16),
    "metal": (0.62, 0.64, 0.67),
    "roof": (0.45, 0.20, 0.16),
    "screen": (0.45, 0.95, 0.95),
    "flag": (0.95, 0.15, 0.45),
}
"""Fixed colours of parts that are not painted in the body colour."""


def trim_color(body: Rgb) -> Rgb:
    """The colour of marks on a body: a paler tint of its colour, or grey on a near-white body."""
    if min(body) > 0.8:
        return tuple(0.62 * channel for channel in body)
    return tuple(0.45 * channel + 0.55 * 0.95 for channel in body)


def role_color(role: str, body_color: str) -> Rgb:
    """RGB of a part with this role on an object of this body colour."""
    body = BODY_COLORS[body_color]
    if role == "body":
        return body
    if role == "trim":
        return trim_color(body)
    return ROLE_COLORS[role]


@dataclass(frozen=True)
class Ground:
    """A ground material: a pattern of two colours."""

    base: Rgb
    second: Rgb
    # A pattern of `shading`.
    pattern: str
    period_m: float
    # Of the pattern, in [0, 1].
    contrast: float


GROUNDS: dict[str, Ground] = {
    "grass": Ground((0.36, 0.60, 0.24), (0.26, 0.48, 0.16), "blobs", 1.0, 0.8),
    "sand": Ground((0.88, 0.77, 0.52), (0.78, 0.66, 0.42), "ripples", 0.7, 0.6),
    "asphalt": Ground((0.40, 0.41, 0.43), (0.33, 0.34, 0.36), "blobs", 0.5, 0.7),
    "wooden floor": Ground((0.70, 0.48, 0.29), (0.55, 0.36, 0.20), "planks", 0.5, 0.8),
    "snow": Ground((0.92, 0.94, 0.98), (0.83, 0.87, 0.94), "blobs", 2.0, 0.5),
    "tiles": Ground((0.78, 0.76, 0.72), (0.60, 0.60, 0.60), "checker", 1.0, 0.8),
}
GROUND_NAMES: tuple[str, ...] = tuple(GROUNDS)


@dataclass(frozen=True)
class Sky:
    """A sky and its light."""

    # The colours between which the sky changes.
    horizon: Rgb
    zenith: Rgb
    # The light's factors.
    sun: Rgb
    ambient: Rgb
    # In [0, 1]; 0: no clouds.
    cloud_contrast: float
    # Lowest and highest.
    sun_elevation_deg: tuple[float, float]


SKIES: dict[str, Sky] = {
    "clear": Sky((0.74, 0.87, 0.98), (0.24, 0.50, 0.90), (0.62, 0.60, 0.55), (0.47, 0.49, 0.52), 0.0, (35.0, 65.0)),
    "cloudy": Sky((0.80, 0.82, 0.84), (0.62, 0.65, 0.69), (0.28, 0.28, 0.28), (0.62, 0.63, 0.64), 0.5, (50.0, 75.0)),
    "sunset": Sky((1.00, 0.64, 0.34), (0.50, 0.32, 0.58), (0.50, 0.39, 0.28), (0.54, 0.47, 0.48), 0.0, (18.0, 30.0)),
    "night": Sky((0.16, 0.20, 0.36), (0.03, 0.04, 0.12), (0.26, 0.28, 0.34), (0.38, 0.40, 0.48), 0.0, (35.0, 65.0)),
}
SKY_NAMES: tuple[str, ...] = tuple(SKIES)

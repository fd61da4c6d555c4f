"""The parts of the synthetic world's ten categories. A user's layouts are drawn with the same ones.

The parts of a category reach all sides of their box. So an object's size is its exact bounding box.
"""

from .parts import Extent, Part


def _mirrored(
    shape: str, role: str, a: Extent, b: Extent, c: Extent, axis: str = "b", shadow: bool = True
) -> list[Part]:
    """The part and its mirror image on the object's other side."""
    return [Part(shape, role, a, b, c, axis, shadow), Part(shape, role, a, b, (-c[1], -c[0]), axis, shadow)]


def _mark(role: str, a: Extent, b: Extent, c: Extent) -> Part:
    """A flat box on a surface, without a shadow of its own."""
    return Part("box", role, a, b, c, casts_shadow=False)


def _wheels(centres_a: tuple[float, ...], half_a: float, top: float, c: Extent) -> list[Part]:
    return [
        part
        for centre in centres_a
        for part in _mirrored("cylinder", "dark", (centre - half_a, centre + half_a), (0.0, top), c, "c")
    ]


def _car() -> list[Part]:
    return [
        Part("box", "body", (-0.48, 0.48), (0.18, 0.58), (-0.47, 0.47)),
        Part("box", "body", (-0.42, 0.12), (0.56, 1.0), (-0.42, 0.42)),
        _mark("glass", (0.10, 0.16), (0.60, 0.92), (-0.38, 0.38)),
        _mark("glass", (-0.36, 0.08), (0.62, 0.90), (-0.44, 0.44)),
        _mark("glass", (-0.44, -0.40), (0.66, 0.90), (-0.32, 0.32)),
        *_mirrored("box", "light", (0.46, 0.5), (0.36, 0.54), (0.22, 0.46), shadow=False),
        _mark("dark", (0.46, 0.5), (0.20, 0.34), (-0.40, 0.40)),
        _mark("tail", (-0.5, -0.46), (0.38, 0.52), (-0.46, 0.46)),
        *_wheels((-0.30, 0.31), 0.085, 0.42, (0.34, 0.5)),
    ]


def _bus() -> list[Part]:
    return [
        Part("box", "body", (-0.485, 0.485), (0.12, 0.95), (-0.475, 0.475)),
        Part("box", "trim", (-0.48, 0.48), (0.93, 1.0), (-0.46, 0.46)),
        _mark("glass", (-0.44, 0.36), (0.52, 0.80), (-0.49, 0.49)),
        _mark("glass", (0.40, 0.5), (0.44, 0.84), (-0.50, 0.50)),
        *_mirrored("box", "light", (0.47, 0.5), (0.18, 0.32), (0.20, 0.44), shadow=False),
        _mark("tail", (-0.5, -0.47), (0.20, 0.34), (-0.44, 0.44)),
        *_wheels((-0.30, 0.30), 0.055, 0.32, (0.36, 0.5)),
    ]


def _chair() -> list[Part]:
    return [
        Part("box", "body", (-0.5, 0.5), (0.42, 0.50), (-0.5, 0.5)),
        Part("box", "body", (-0.5, -0.36), (0.48, 1.0), (-0.5, 0.5)),
        _mark("trim", (-0.30, 0.44), (0.50, 0.56), (-0.42, 0.42)),
        _mark("trim", (-0.37, -0.30), (0.60, 0.94), (-0.40, 0.40)),
        *_mirrored("box", "wood", (-0.48, -0.34), (0.0, 0.42), (0.34, 0.48)),
        *_mirrored("box", "wood", (0.34, 0.48), (0.0, 0.42), (0.34, 0.48)),
    ]


def _sofa() -> list[Part]:
    return [
        Part("box", "dark", (-0.42, 0.42), (0.0, 0.12), (-0.46, 0.46)),
        Part("box", "body", (-0.5, 0.46), (0.10, 0.42), (-0.5, 0.5)),
        Part("box", "body", (-0.5, -0.22), (0.40, 1.0), (-0.5, 0.5)),
        *_mirrored("box", "body", (-0.48, 0.5), (0.10, 0.66), (0.39, 0.5)),
        *_mirrored("box", "trim", (-0.24, 0.48), (0.42, 0.54), (0.01, 0.38), shadow=False),
        *_mirrored("box", "trim", (-0.24, -0.12), (0.56, 0.92), (0.01, 0.38), shadow=False),
    ]


def _house() -> list[Part]:
    return [
        Part("box", "body", (-0.45, 0.45), (0.0, 0.58), (-0.44, 0.44)),
        Part("prism", "roof", (-0.48, 0.48), (0.56, 0.97), (-0.5, 0.5), "a"),
        Part("prism", "body", (-0.5, 0.5), (0.56, 0.88), (-0.38, 0.38), "a", casts_shadow=False),
        Part("box", "roof", (-0.34, -0.22), (0.66, 1.0), (0.14, 0.28)),
        _mark("wood", (0.43, 0.48), (0.0, 0.36), (-0.12, 0.12)),
        *_mirrored("box", "glass", (0.43, 0.47), (0.22, 0.44), (0.20, 0.37), shadow=False),
        _mark("glass", (-0.14, 0.14), (0.22, 0.44), (-0.46, 0.46)),
    ]


def _person() -> list[Part]:
    return [
        *_mirrored("cylinder", "dark", (-0.16, 0.20), (0.04, 0.48), (0.03, 0.30)),
        *_mirrored("box", "wood", (-0.16, 0.5), (0.0, 0.06), (0.03, 0.30), shadow=False),
        Part("box", "body", (-0.20, 0.26), (0.44, 0.82), (-0.34, 0.34)),
        *_mirrored("box", "body", (-0.14, 0.22), (0.44, 0.81), (0.32, 0.5)),
        *_mirrored("ellipsoid", "skin", (-0.12, 0.20), (0.38, 0.47), (0.33, 0.49), shadow=False),
        Part("ellipsoid", "skin", (-0.26, 0.40), (0.80, 0.98), (-0.27, 0.27)),
        Part("ellipsoid", "dark", (-0.40, 0.30), (0.86, 1.0), (-0.29, 0.29), casts_shadow=False),
        Part("box", "wood", (-0.5, -0.18), (0.48, 0.80), (-0.28, 0.28)),
    ]


def _dog() -> list[Part]:
    return [
        Part("box", "body", (-0.42, 0.22), (0.36, 0.70), (-0.38, 0.38)),
        *_mirrored("box", "body", (-0.42, -0.30), (0.0, 0.40), (0.12, 0.38)),
        *_mirrored("box", "body", (0.10, 0.22), (0.0, 0.40), (0.12, 0.38)),
        Part("box", "body", (0.10, 0.36), (0.56, 0.96), (-0.44, 0.44)),
        _mark("trim", (0.34, 0.48), (0.58, 0.76), (-0.28, 0.28)),
        _mark("dark", (0.44, 0.5), (0.68, 0.78), (-0.14, 0.14)),
        *_mirrored("box", "dark", (0.34, 0.38), (0.78, 0.88), (0.14, 0.34), shadow=False),
        *_mirrored("box", "dark", (0.12, 0.24), (0.72, 1.0), (0.40, 0.5), shadow=False),
        Part("cylinder", "body", (-0.5, -0.40), (0.56, 0.94), (-0.10, 0.10)),
    ]


def _robot() -> list[Part]:
    return [
        *_mirrored("box", "dark", (-0.42, 0.5), (0.0, 0.10), (0.06, 0.34)),
        *_mirrored("cylinder", "metal", (-0.20, 0.20), (0.08, 0.30), (0.10, 0.30)),
        Part("box", "body", (-0.38, 0.38), (0.28, 0.64), (-0.34, 0.34)),
        _mark("screen", (0.36, 0.44), (0.40, 0.56), (-0.20, 0.20)),
        *_mirrored("cylinder", "metal", (-0.18, 0.18), (0.26, 0.62), (0.36, 0.5)),
        Part("box", "body", (-0.40, 0.40), (0.66, 0.94), (-0.30, 0.30)),
        _mark("screen", (0.38, 0.46), (0.70, 0.90), (-0.25, 0.25)),
        *_mirrored("box", "dark", (0.44, 0.5), (0.76, 0.87), (0.06, 0.18), shadow=False),
        _mark("metal", (-0.5, -0.36), (0.32, 0.60), (-0.24, 0.24)),
        Part("cone", "flag", (-0.10, 0.10), (0.93, 1.0), (-0.08, 0.08)),
    ]


def _cabinet() -> list[Part]:
    return [
        Part("box", "dark", (-0.44, 0.36), (0.0, 0.06), (-0.46, 0.46)),
        Part("box", "body", (-0.46, 0.40), (0.05, 0.97), (-0.48, 0.48)),
        Part("box", "body", (-0.46, 0.46), (0.96, 1.0), (-0.5, 0.5)),
        *_mirrored("box", "trim", (0.22, 0.46), (0.40, 0.93), (0.02, 0.49), shadow=False),
        _mark("trim", (0.22, 0.46), (0.09, 0.36), (-0.49, 0.49)),
        *_mirrored("box", "dark", (0.44, 0.5), (0.54, 0.74), (0.06, 0.12), shadow=False),
        _mark("dark", (0.44, 0.5), (0.21, 0.26), (-0.16, 0.16)),
        _mark("wood", (-0.5, -0.38), (0.05, 0.96), (-0.485, 0.485)),
    ]


def _mailbox() -> list[Part]:
    return [
        Part("cylinder", "wood", (-0.14, 0.14), (0.0, 0.60), (-0.20, 0.20)),
        Part("box", "body", (-0.5, 0.42), (0.56, 0.82), (-0.42, 0.42)),
        Part("cylinder", "body", (-0.5, 0.42), (0.64, 0.99), (-0.42, 0.42), "a"),
        Part("box", "trim", (0.26, 0.46), (0.55, 0.82), (-0.44, 0.44), casts_shadow=False),
        Part("cylinder", "trim", (0.26, 0.46), (0.63, 1.0), (-0.44, 0.44), "a", casts_shadow=False),
        _mark("dark", (0.44, 0.5), (0.74, 0.82), (-0.26, 0.26)),
        *_mirrored("box", "flag", (0.10, 0.20), (0.70, 0.96), (0.42, 0.5), shadow=False),
        *_mirrored("box", "flag", (-0.12, 0.12), (0.86, 0.96), (0.42, 0.5), shadow=False),
    ]


CATEGORY_PARTS: dict[str, tuple[Part, ...]] = {
    "car": tuple(_car()),
    "bus": tuple(_bus()),
    "chair": tuple(_chair()),
    "sofa": tuple(_sofa()),
    "house": tuple(_house()),
    "person": tuple(_person()),
    "dog": tuple(_dog()),
    "robot": tuple(_robot()),
    "cabinet": tuple(_cabinet()),
    "mailbox": tuple(_mailbox()),
}

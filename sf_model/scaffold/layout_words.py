"""A layout in words: what its camera is called by photographers."""

from __future__ import annotations

from .layout import LayoutCamera, lens_of_fov

# The lowest pitch in degrees, and the words. The first that fits is taken.
_ANGLES = ((55.0, "seen straight from above"), (30.0, "bird's-eye view"), (14.0, "high angle"), (-4.0, ""))
_LENSES = ((20.0, "ultra wide-angle"), (32.0, "wide-angle"), (70.0, ""), (float("inf"), "telephoto"))
_LOW_M = 0.7


def camera_words(camera: LayoutCamera) -> str:
    """Words for the camera's height, angle and lens: "low angle, 35 mm lens". The lens is that of 35 mm film."""
    angle = next((words for least, words in _ANGLES if camera.pitch_deg >= least), "low angle")
    if not angle:
        angle = "low camera" if camera.height_m < _LOW_M else "eye level" if camera.height_m < 2.5 else "raised camera"
    focal_mm = lens_of_fov(camera.fov_y_deg)
    kind = next(words for most, words in _LENSES if focal_mm <= most)
    return f"{angle}, {focal_mm:.0f} mm {kind + ' ' if kind else ''}lens"

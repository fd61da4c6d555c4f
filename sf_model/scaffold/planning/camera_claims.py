"""What a prompt says about the camera."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..quantities import METRES
from ..sizes import plain_name
from .claim_patterns import DEGREES, LENGTH
from .claims import MAX_PROMPT, number_word


@dataclass(frozen=True)
class CameraClaims:
    """What the words say about the camera. None: nothing."""

    height_m: float | None = None
    # Positive looks down.
    pitch_deg: float | None = None
    fov_y_deg: float | None = None
    # On film of 36 x 24 mm.
    focal_mm: float | None = None


_CAMERA_HEIGHT = re.compile(
    rf"camera(?: is| stands| placed)?(?: at)?(?: a)?(?: height)?(?: of)? {LENGTH}"
    r"(?: high| above| up| over| tall| height|$|,|;|\.)"
)
_PITCH = re.compile(rf"(?:tilt|pitch|look|angl|point|camera)[^;.<]{{0,24}}?{DEGREES} (?P<way>down|up)")
_PITCH_2 = re.compile(rf"(?:tilt|pitch|look|angl|point)\w* (?P<way>down|up)(?:wards?)? (?:by )?{DEGREES}")
_LEVEL = re.compile(r"camera\b[^;<]{0,60}?, level\b|level camera|camera is level")
_FOV = re.compile(
    rf"{DEGREES} (?:vertical )?(?:field of view|fov)|(?:field of view|fov)(?: is| of)? (?P<n2>\d+(?:\.\d+)?)"
)
_LENS = re.compile(r"(?P<n>\d+(?:\.\d+)?) ?-?mm\b(?! (?:long|wide|tall|high|thick|deep|away|from|apart|to the))")
_VIEWS: tuple[tuple[str, float | None, float | None, float | None], ...] = (
    # Words; height in metres, pitch and field of view in degrees.
    (r"worm'?s[ -]eye", 0.15, -20.0, None),
    (r"low[ -]angle", 0.4, -6.0, None),
    (r"bird'?s[ -]eye|top[ -]down|overhead (?:shot|view)|aerial|seen from (?:straight )?above", 8.0, 60.0, None),
    (r"high[ -]angle", 3.0, 28.0, None),
    (r"eye[ -]level", 1.6, 2.0, None),
    (r"fish[ -]?eye|ultra[ -]wide", None, None, 90.0),
    (r"wide[ -]angle", None, None, 65.0),
    (r"telephoto|long lens", None, None, 20.0),
)


def find_camera_claims(prompt: str) -> CameraClaims:
    """The camera's height, pitch, field of view and lens, where the words say them. Numbers go before words."""
    text = plain_name(prompt[:MAX_PROMPT], keep_lines=True)
    height = pitch = fov = None
    for words, *values in _VIEWS:
        if re.search(words, text):
            height, pitch, fov = (old if old is not None else new for old, new in zip((height, pitch, fov), values))
    if found := _CAMERA_HEIGHT.search(text):
        height = number_word(found["n"]) * METRES[found["u"]]
    if found := _PITCH.search(text) or _PITCH_2.search(text):
        pitch = number_word(found["n"]) * (1.0 if found["way"] == "down" else -1.0)
    elif _LEVEL.search(text):
        pitch = 0.0
    if found := _FOV.search(text):
        fov = number_word(found["n"] or found["n2"])
    lens = _LENS.search(text)
    focal = float(lens["n"]) if lens and 4.0 <= float(lens["n"]) <= 1200.0 else None
    return CameraClaims(height, pitch, fov, focal)

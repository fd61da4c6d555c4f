"""From a prompt to a layout: a language model writes it, and this reads, repairs and corrects what it wrote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..layout import MAX_FOV_DEG, MIN_FOV_DEG, Layout, fov_of_lens
from ..layout_reading import ReadLayout, excerpt, read_layout
from ..shapes import named_shapes
from .camera_claims import find_camera_claims
from .claims import find_claims
from .solving import solve_layout

INSTRUCTIONS = Path(__file__).with_name("instructions.txt")
_REPAIR = "Your last answer could not be used: {reason}\nIt began: {answer}\nAnswer again with one JSON object only.\n"
# So much of an answer stands in the next request and in an error.
_QUOTED = 300
# How a language model is asked, by the node and by `evaluation plan`.
ATTEMPTS = 3
MAX_TOKENS = 1536
# JSON repeats itself: a penalty for repetition would break it.
SAMPLING = {"do_sample": True, "temperature": 0.5, "top_k": 40, "top_p": 0.9, "min_p": 0.0, "repetition_penalty": 1.0}

Write = Callable[[str, int], str]
"""Takes a request and the number of the attempt, from 0 on. Returns what the language model answers."""


class PlanningError(ValueError):
    """The language model wrote no layout. The message shows what came."""


@dataclass(frozen=True)
class Plan:
    """A planned layout."""

    layout: Layout
    # What was assumed, changed, or found impossible: sentences for the user.
    notes: tuple[str, ...]
    # What the language model answered, in the order of the attempts.
    answers: tuple[str, ...]


def default_instructions() -> str:
    return INSTRUCTIONS.read_text(encoding="utf-8")


def request_text(instructions: str, prompt: str, camera: str = "", repair: str = "") -> str:
    """The request for a language model.

    {prompt}, {shapes}, {camera} and {repair} in the instructions are replaced. Without {prompt}, the prompt follows.
    """
    wishes = f"Camera: {camera.strip()}\n" if camera.strip() else ""
    parts = {"shapes": ", ".join(named_shapes()), "camera": wishes, "repair": repair}
    text = instructions if "{prompt}" in instructions else f"{instructions.rstrip()}\n\nDescription: {{prompt}}\n"
    text = text if "{camera}" in text else f"{text.rstrip()}\n{{camera}}"
    text = text if "{repair}" in text else f"{text}{{repair}}"
    for name, value in parts.items():
        text = text.replace(f"{{{name}}}", value)
    # Last, because a prompt may have braces.
    return text.replace("{prompt}", prompt.strip()).rstrip() + "\n"


def plan_layout(
    prompt: str,
    write: Write,
    camera: str = "",
    aspect: float = 1.0,
    attempts: int = ATTEMPTS,
    instructions: str = "",
) -> Plan:
    """Ask a language model for the layout of a prompt, at most `attempts` times, and correct it.

    camera: wishes for the camera, in words. aspect: width / height of the image. instructions: "" for the usual ones.
    Raises PlanningError, which shows the last answer, where no answer has a layout with an object.
    """
    if not prompt.strip():
        raise ValueError("write what the picture shows into the prompt: it is empty")
    answers: list[str] = []
    repair = ""
    for attempt in range(attempts):
        answers.append(
            write(request_text(instructions.strip() or default_instructions(), prompt, camera, repair), attempt)
        )
        try:
            read = _read_with_objects(answers[-1])
        except ValueError as error:
            reason = str(error)
            repair = _REPAIR.format(reason=reason[:_QUOTED], answer=excerpt(answers[-1], _QUOTED))
            continue
        layout, notes = correct_layout(read, prompt, camera, aspect)
        return Plan(layout, notes, tuple(answers))
    raise PlanningError(
        f"use a larger language model, another seed or a simpler prompt, or connect a layout: after {len(answers)} "
        f"attempts there was none, because of this: {reason}. The last answer was {excerpt(answers[-1], _QUOTED)}"
    )


def correct_layout(
    read: ReadLayout, prompt: str, camera: str = "", aspect: float = 1.0
) -> tuple[Layout, tuple[str, ...]]:
    """The layout as the words of the prompt want it, and all notes: what was assumed, changed and impossible."""
    layout, camera_notes = _with_camera(read.layout, f"{prompt}\n{camera}")
    claims = find_claims(prompt, [thing.name for thing in layout.objects])
    layout, notes = solve_layout(layout, claims, aspect)
    return layout, tuple(dict.fromkeys((*read.notes, *camera_notes, *notes)))


def _read_with_objects(answer: str) -> ReadLayout:
    read = read_layout(answer)
    if not read.layout.objects:
        raise ValueError("name at least one object: the layout has none")
    return read


def _with_camera(layout: Layout, words: str) -> tuple[Layout, list[str]]:
    """The layout with the camera that the words state."""
    said, camera, notes = find_camera_claims(words), layout.camera, []
    fov = fov_of_lens(said.focal_mm) if said.fov_y_deg is None and said.focal_mm is not None else said.fov_y_deg
    wanted = {
        "height_m": (said.height_m, 0.0, 1000.0, "m high"),
        "pitch_deg": (said.pitch_deg, -90.0, 90.0, "degrees down"),
        "fov_y_deg": (fov, MIN_FOV_DEG, MAX_FOV_DEG, "degrees of view"),
    }
    for name, (value, low, high, words_for_it) in wanted.items():
        if value is not None and abs(value - getattr(camera, name)) > 0.01:
            limited = min(max(value, low), high)
            camera = replace(camera, **{name: limited})
            notes.append(f"the camera was changed to {limited:.3g} {words_for_it}, as the words say")
    return replace(layout, camera=camera), notes

"""Free captions: they determine the scene, by every object's distance, lateral offset and heading, and the camera.

Only rounding, sizes within a category's range and the sun's direction stay open.
"""

import random
from collections.abc import Sequence

from .caption_common import CaptionedScene, Fact, identity_facts, joined, look_phrases, name_of, with_article, words
from .geometry import camera_distance_m, view_heading_deg
from .sampling import sample_scene
from .scene import Camera, Scene, SceneObject

OCTANTS: tuple[str, ...] = (
    "facing the camera",
    "facing front right",
    "facing right",
    "facing back right",
    "facing away",
    "facing back left",
    "facing left",
    "facing front left",
)
"""Words for the heading relative to the viewing ray, in steps of 45 degrees from 0."""


def octant(obj: SceneObject) -> str:
    """The object's heading as one of `OCTANTS`, the nearest one."""
    return OCTANTS[round(view_heading_deg(obj) / 45.0) % 8]


def lateral_words(x_m: float) -> str:
    """An offset in metres, positive to the right, as words with one decimal."""
    if x_m == 0.0:
        return "straight ahead"
    return f"{abs(x_m):.1f} m to the {'right' if x_m > 0 else 'left'}"


def tilt_words(pitch_deg: float) -> str:
    """Camera pitch, positive downwards, as words in whole degrees."""
    if round(pitch_deg) == 0:
        return "level"
    return f"tilted {abs(round(pitch_deg))} degrees {'down' if pitch_deg > 0 else 'up'}"


def _object_phrase(rng: random.Random, index: int, obj: SceneObject) -> tuple[str, list[Fact]]:
    distance_m, lateral_m = round(camera_distance_m(obj), 1), round(obj.position_m[0], 1)
    heading = octant(obj)
    facts = [
        Fact("camera_distance_m", index, value=distance_m),
        Fact("lateral_m", index, value=lateral_m),
        Fact("octant", index, value=heading),
    ]
    name, away, side = with_article(name_of(obj)), f"{distance_m:.1f} m away", lateral_words(lateral_m)
    phrase = rng.choice((f"{name} {away}, {side}, {heading}", f"{name} {heading}, {away}, {side}"))
    return phrase, facts


def _camera_phrase(rng: random.Random, camera: Camera) -> str:
    height, tilt = f"{camera.height_m:.1f} m", tilt_words(camera.pitch_deg)
    view = f"{round(camera.fov_y_deg)} degrees field of view"
    return rng.choice(
        (f"camera {height} high, {tilt}, {view}", f"camera at {height} height, {view}, {tilt}"),
    )


def _assemble(rng: random.Random, phrases: list[str], look: str, camera: str) -> str:
    style = rng.randrange(4)
    objects = "; ".join(phrases)
    if style == 0:
        return f"{objects}; {look}; {camera}"
    if style == 1:
        return f"{camera}; {look}; {objects}"
    if style == 2:
        return f"{look}: {objects}; {camera}"
    return f"{joined(phrases)}, {look}, {camera}"


def sample_free(rng: random.Random, split: str) -> CaptionedScene:
    """A random scene of 1 to 3 objects and a caption that determines it."""
    scene: Scene = sample_scene(rng, split, count=rng.choices((1, 2, 3), weights=(40, 50, 10))[0])
    facts = identity_facts(scene.objects)
    caption, claims = describe_freely(rng, scene)
    return CaptionedScene(scene, caption, "free", (*facts, *claims))


def describe_freely(rng: random.Random, scene: Scene, order: Sequence[int] | None = None) -> tuple[str, list[Fact]]:
    """A caption that determines the scene, and its facts without the objects' identities.

    order: of the objects. None: the scene's.
    """
    phrases: list[str] = []
    facts: list[Fact] = []
    for index in range(len(scene.objects)) if order is None else order:
        phrase, claims = _object_phrase(rng, index, scene.objects[index])
        phrases.append(phrase)
        facts += claims
    ground, sky, look_facts = look_phrases(rng, scene, p_ground=1.0, p_sky=1.0)
    camera = scene.camera
    facts += [
        *look_facts,
        Fact("camera_height_m", value=camera.height_m),
        Fact("pitch_deg", value=camera.pitch_deg),
        Fact("fov_y_deg", value=camera.fov_y_deg),
    ]
    return _assemble(rng, phrases, words(ground, sky), _camera_phrase(rng, camera)), facts

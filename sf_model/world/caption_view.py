"""View captions: where each object stands in the picture, in coarse words (left, middle, far away).

They are easier to learn than free captions: one word tells left from right, instead of one number among many.
"""

import random

from .caption_common import CaptionedScene, Fact, identity_facts, joined, look_phrases, name_of, with_article, words
from .geometry import camera_distance_m
from .sampling import projected_box, sample_scene
from .scene import Camera, SceneObject

MIDDLE = (0.42, 0.58)
"""An object is in the middle if its centre lies between these shares of the picture's width."""
CLOSE_M, FAR_M = 2.5, 12.0

_SIDE_PHRASES = {
    "left": ("on the left", "on the left side", "at the left"),
    "middle": ("in the middle", "in the centre"),
    "right": ("on the right", "on the right side", "at the right"),
}
_DISTANCE_WORDS = {"close": "close to the camera", "far": "far away", "": ""}


def side_of(obj: SceneObject, camera: Camera) -> str:
    """Where the centre of the object's projection lies: "left", "middle" or "right"."""
    box = projected_box(obj, camera)
    assert box is not None  # sampled objects are in front of the camera
    column = (box.left + box.right) / 2
    return "left" if column < MIDDLE[0] else "right" if column > MIDDLE[1] else "middle"


def _object_phrase(rng: random.Random, index: int, obj: SceneObject, camera: Camera) -> tuple[str, list[Fact]]:
    side, distance_m = side_of(obj, camera), camera_distance_m(obj)
    facts = [Fact("view_side", index, value=side)]
    distance = "close" if distance_m < CLOSE_M else "far" if distance_m > FAR_M else ""
    if distance and rng.random() < 0.5:
        facts.append(Fact("view_distance", index, value=distance))
    else:
        distance = ""
    return words(with_article(name_of(obj)), _DISTANCE_WORDS[distance], rng.choice(_SIDE_PHRASES[side])), facts


def sample_view(rng: random.Random, split: str) -> CaptionedScene:
    """A random scene of 1 to 3 objects and a caption that says where in the picture they stand."""
    scene = sample_scene(rng, split, count=rng.choices((1, 2, 3), weights=(50, 40, 10))[0])
    phrases: list[str] = []
    facts = list(identity_facts(scene.objects))
    for index, obj in enumerate(scene.objects):
        phrase, claims = _object_phrase(rng, index, obj, scene.camera)
        phrases.append(phrase)
        facts += claims
    ground, sky, look_facts = look_phrases(rng, scene, p_ground=0.7, p_sky=0.6)
    style = rng.randrange(3)
    if style == 0 and sky:
        caption = words(f"{sky},", joined(phrases), ground)
    elif style == 1 and (ground or sky):
        caption = f"{joined(phrases)}, {words(ground, sky)}"
    else:
        caption = words(joined(phrases), ground, sky)
    return CaptionedScene(scene, caption, "view", (*facts, *look_facts))

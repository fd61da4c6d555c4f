"""Plain captions in the style of web captions: objects, colours, ground and sky, and only rarely positions."""

import random

from .caption_common import CaptionedScene, Fact, joined, look_phrases, name_of, with_article, words
from .sampling import sample_scene
from .scene import Scene

_P_COLOR = 0.9
_P_ALL_OBJECTS = 0.9
_P_POSITION = 0.03
_MIN_SIDE_SLOPE = 0.1
_OPENINGS = ("a photo of", "a picture of", "an image of", "a scene with", "a view of")


def _object_phrases(rng: random.Random, scene: Scene) -> tuple[list[str], list[Fact]]:
    order = list(range(len(scene.objects)))
    rng.shuffle(order)
    if len(order) > 1 and rng.random() > _P_ALL_OBJECTS:
        order.pop()
    categories = [obj.category for obj in scene.objects]
    phrases, facts = [], []
    for index in order:
        obj = scene.objects[index]
        facts.append(Fact("category", index, value=obj.category))
        phrase = obj.category
        if categories.count(obj.category) > 1 or rng.random() < _P_COLOR:
            phrase = name_of(obj)
            facts.append(Fact("color", index, value=obj.color))
        slope = obj.position_m[0] / obj.position_m[1]
        if rng.random() < _P_POSITION and abs(slope) > _MIN_SIDE_SLOPE:
            side = "right" if slope > 0 else "left"
            facts.append(Fact("image_side", index, value=side))
            phrase = f"{phrase} on the {side}"
        phrases.append(with_article(phrase))
    return phrases, facts


def sample_plain(rng: random.Random, split: str) -> CaptionedScene:
    """A random scene and a web-style caption of it."""
    scene = sample_scene(rng, split)
    phrases, facts = _object_phrases(rng, scene)
    ground, sky, look_facts = look_phrases(rng, scene, p_ground=0.75, p_sky=0.7)
    objects = joined(phrases)
    style = rng.randrange(5)
    if style == 0:
        caption = words(rng.choice(_OPENINGS), objects, ground, sky)
    elif style == 1 and sky:
        caption = words(f"{sky},", objects, ground)
    elif style == 2 and ground:
        caption = words(f"{ground},", objects, sky)
    elif style == 3 and sky:
        caption = f"{words(objects, ground)}, {sky}"
    else:
        caption = words(objects, ground, sky)
    return CaptionedScene(scene, caption, "plain", (*facts, *look_facts))

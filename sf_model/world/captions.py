"""Captioned scenes of every kind: web-style, places in view, free descriptions, GenSpace's nine spatial sub-domains."""

import random

from .caption_common import CaptionedScene, identity_facts, look_phrases, name_of, with_article, words
from .caption_free import describe_freely, sample_free
from .caption_plain import sample_plain
from .caption_view import sample_view
from .relations import BUILDERS, Draft
from .sampling import SPLITS, is_good_picture, sample_camera, sample_look
from .scene import Scene

SPATIAL_KINDS: tuple[str, ...] = tuple(BUILDERS)
KINDS: tuple[str, ...] = ("plain", "view", "free", *SPATIAL_KINDS)
TEMPLATES_PER_SPATIAL_KIND = 4
_ATTEMPTS = 100


def _caption(rng: random.Random, scene: Scene, draft: Draft, kind: str) -> CaptionedScene:
    names = [name_of(obj) for obj in scene.objects] * 2
    claim = rng.choice(draft.phrasings).format(
        A=with_article(names[0]), B=with_article(names[1]), a=names[0], b=names[1]
    )
    ground, sky, look_facts = look_phrases(rng, scene, p_ground=0.7, p_sky=0.6)
    style = rng.randrange(3)
    if style == 0 and sky:
        text = words(f"{sky},", claim, ground)
    elif style == 1 and (ground or sky):
        text = f"{claim}, {words(ground, sky)}"
    else:
        text = words(claim, ground, sky)
    facts = (*draft.facts, *identity_facts(scene.objects), *look_facts)
    return CaptionedScene(scene, text, kind, facts)


def sample(rng: random.Random, kind: str, split: str = "train", template: int | None = None) -> CaptionedScene:
    """A random scene and a caption of this kind that is true of it.

    template: which claim of a spatial kind, 0 to 3. None: a random one. The other kinds have only template 0.
    split: in "train" no object is a held-out (category, colour) pair, in "held_out" at least one is.
    Raises ValueError for an unknown kind, split or template.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, not {kind!r}")
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, not {split!r}")
    templates = TEMPLATES_PER_SPATIAL_KIND if kind in BUILDERS else 1
    if template is not None and not 0 <= template < templates:
        raise ValueError(f"template of {kind!r} must be in 0..{templates - 1}, not {template}")
    if kind == "plain":
        return sample_plain(rng, split)
    if kind == "view":
        return sample_view(rng, split)
    if kind == "free":
        return sample_free(rng, split)
    if template is None:
        template = rng.randrange(templates)
    builder = BUILDERS[kind]
    while True:
        # Try the same objects many times. Otherwise categories that are easy to frame would dominate.
        identities = builder.choose(rng, template, split)
        for _ in range(_ATTEMPTS):
            camera = sample_camera(rng)
            draft = builder.place(rng, camera, template, identities)
            if draft is not None and is_good_picture(camera, draft.objects):
                scene = Scene(camera, draft.objects, *sample_look(rng))
                return _caption(rng, scene, draft, kind)


def describe_again(rng: random.Random, captioned: CaptionedScene) -> str:
    """A free caption of the same scene, with its objects in random order."""
    order = list(range(len(captioned.scene.objects)))
    rng.shuffle(order)
    return describe_freely(rng, captioned.scene, order)[0]

"""Grounding answers against a scene whose projection is computed by hand."""

import random
import re
from dataclasses import replace

import pytest

from sf_model import world
from sf_model.world.grounding import ground


def test_the_answer_is_the_projection() -> None:
    """A 1 m cube 5 m ahead and 2 m to the right of a level camera at 0.5 m, 90 degrees: the nearest face is 4.5 m away,
    where a metre spans 1 / 9 of the picture; its box runs from the far left edge to the near right one."""
    captioned = world.sample(random.Random(0), "view")
    camera = replace(captioned.scene.camera, height_m=0.5, pitch_deg=0.0, fov_y_deg=90.0)
    cube = replace(captioned.scene.objects[0], position_m=(2.0, 5.0), size_m=(1.0, 1.0, 1.0), heading_deg=0.0)
    scene = replace(captioned.scene, camera=camera, objects=(cube,))
    answer = ground(replace(captioned, scene=scene))
    left, right = 0.5 + 0.5 * 1.5 / 5.5, 0.5 + 0.5 * 2.5 / 4.5
    expected = [round(100 * (left + right) / 2), 50, round(100 * (right - left)), 11]
    assert [int(value) for value in re.findall(r" (\d\d)(?= )", answer)] == expected
    assert answer.endswith(" 4.5 m")


@pytest.mark.parametrize("kind", world.KINDS)
def test_every_object_has_one(kind: str) -> None:
    captioned = world.sample(random.Random(1), kind)
    assert ground(captioned).count(" m") >= len(captioned.scene.objects)
    assert len(ground(captioned).split(", ")) == len(captioned.scene.objects)

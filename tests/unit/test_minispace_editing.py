"""The edit benchmark's scores: true edits, unchanged sources, and cases by hand."""

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sf_model import world
from sf_model.evaluation.editing.command import edit_drawer, shuffled_partners
from sf_model.evaluation.editing.depth import changed_pixels, right
from sf_model.evaluation.editing.prompts import EDIT_KINDS, EditPrompt, edit_prompts
from sf_model.evaluation.editing.scoring import EditScore, edit_score, pixels_changed, pixels_stayed, subject_index
from sf_model.evaluation.minispace.rows import BLANK, FUSION, MEAN, ORACLE, SHUFFLED
from sf_model.evaluation.sampling import SystemSampler
from sf_model.scene_reader.reading import SceneReading
from sf_model.training.bases.sizes import MiniSizes
from sf_model.world import Camera, EditPair, Fact, Scene, SceneObject
from tests.unit.dummy_systems import DUMMY, export_untrained, without_sources
from tests.unit.readers import true_reading


@pytest.fixture(scope="module")
def prompts() -> list[EditPrompt]:
    return edit_prompts(seed=0, per_kind=20)


def test_prompts_are_of_the_seed_alone(prompts: list[EditPrompt]) -> None:
    assert [prompt.pair.kind for prompt in prompts] == [kind for kind in EDIT_KINDS for _ in range(20)]
    assert edit_prompts(0, 2) == [prompt for prompt in prompts if prompt.number % 10_000 < 2]
    assert edit_prompts(0, 2) != edit_prompts(1, 2)


def test_the_true_edit_scores_1_and_the_unchanged_source_0(prompts: list[EditPrompt]) -> None:
    for prompt in prompts:
        pair = prompt.pair
        source, target = true_reading(pair.source), true_reading(pair.target)
        assert edit_score(pair, source, target, 1.0, 1.0) == EditScore(1.0, 1.0, 1.0, 0.0), pair
        unchanged = edit_score(pair, source, source, 1.0, 0.0)
        assert unchanged.change == 0.0, pair
        assert unchanged.overall == 0.0


def test_an_unchanged_source_scores_0_however_it_is_read(prompts: list[EditPrompt]) -> None:
    for prompt in prompts:
        true = true_reading(prompt.pair.source)
        wrong = [
            replace(found, view_heading_deg=(found.view_heading_deg + turn) % 360)
            for found, turn in zip(true.objects, (0, 90, 180, 270))
        ]
        others = true_reading(prompt.pair.target).objects
        for objects in (wrong, wrong[1:], (*wrong, *others), ()):
            reading = SceneReading(tuple(objects), true.camera)
            assert edit_score(prompt.pair, reading, reading, 1.0, 0.0).change == 0.0, prompt


def test_an_empty_image_keeps_nothing(prompts: list[EditPrompt]) -> None:
    for prompt in prompts:
        empty = SceneReading((), true_reading(prompt.pair.source).camera)
        result = edit_score(prompt.pair, true_reading(prompt.pair.source), empty, 0.0, 1.0)
        assert result.objects_stayed == 0.0
        assert result.overall == 0.0


CAMERA = Camera(1.4, 0.0, 50.0)
CHAIR = SceneObject("chair", "red", (0.0, 4.0), 0.0, (0.5, 0.5, 1.0))
SOFA = SceneObject("sofa", "blue", (1.5, 4.0), 0.0, (0.9, 1.8, 0.9))


def scene(*objects: SceneObject) -> Scene:
    return Scene(CAMERA, objects, "grass", "clear", 0.0, 45.0)


def judged(kind: str, fact: Fact, result: Scene, source: Scene | None = None) -> EditScore:
    source = source or scene(CHAIR, SOFA)
    pair = EditPair(source, result, "", kind, (fact,))
    return edit_score(pair, true_reading(source), true_reading(result), 1.0, 1.0)


def test_moves_by_hand() -> None:
    fact = Fact("moved_right_m", 0, value=1.0)

    def moved(x: float, z: float) -> EditScore:
        return judged("move", fact, scene(replace(CHAIR, position_m=(x, z)), SOFA))

    assert moved(1.0, 4.0).change == 1
    assert moved(0.5, 4.0).change == pytest.approx(0.5)
    assert moved(1.5, 4.0).change == pytest.approx(0.5)
    assert moved(-1.0, 4.0).change == 0
    # Half a metre aside as well.
    assert moved(1.0, 4.5).change == pytest.approx(0.5)
    closer = Fact("moved_closer_m", 0, value=1.0)
    assert judged("move", closer, scene(replace(CHAIR, position_m=(0.0, 3.0)), SOFA)).change == 1
    # The sofa should have stayed: it counts for a half, the chair's own size and heading for the other.
    dragged = scene(replace(CHAIR, position_m=(1.0, 4.0)), replace(SOFA, position_m=(2.5, 4.0)))
    assert judged("move", fact, dragged).objects_stayed == pytest.approx(0.5)
    turned = replace(CHAIR, position_m=(1.0, 4.0), heading_deg=45.0)
    assert judged("move", fact, scene(turned, SOFA)).objects_stayed == pytest.approx(0.75)


def test_a_larger_object_that_was_read_as_a_nearer_one_has_grown() -> None:
    """The reader gives both the usual size: 1.2 times as large looks like 1.2 times as near under a camera 1.2 times as
    low. The source tells how high the camera is."""
    source = scene(CHAIR, SOFA)
    larger = replace(CHAIR, size_m=tuple(1.2 * extent for extent in CHAIR.size_m))
    pair = EditPair(source, scene(larger, SOFA), "", "resize", (Fact("size_factor", 0, value=1.2),))
    found = true_reading(pair.target)
    chair = found.objects[0]
    usual = replace(chair, position_m=tuple(x / 1.2 for x in chair.position_m), size_m=CHAIR.size_m)
    seen = edit_score(pair, true_reading(source), replace(found, objects=(usual, found.objects[1])), 1.0, 1.0)
    assert (seen.change, seen.objects_stayed) == pytest.approx((1, 1))


def test_sizes_by_hand() -> None:
    fact = Fact("size_factor", 0, value=1.2)

    def scaled(factor: float) -> float:
        size = tuple(factor * extent for extent in CHAIR.size_m)
        return judged("resize", fact, scene(replace(CHAIR, size_m=size), SOFA)).change

    assert scaled(1.2) == pytest.approx(1)
    assert scaled(1.3) == pytest.approx(0.5)
    assert scaled(1.1) == pytest.approx(0.5)
    assert scaled(0.8) == 0


def test_poses_additions_and_removals_by_hand() -> None:
    away = Fact("facing", 0, value="away")
    assert judged("pose", away, scene(replace(CHAIR, heading_deg=180.0), SOFA)).change == 1
    assert judged("pose", away, scene(replace(CHAIR, heading_deg=150.0), SOFA)).change == pytest.approx(0.5)
    removed = judged("remove", Fact("removed", 0), scene(SOFA))
    assert (removed.change, removed.objects_stayed) == (1.0, 1.0)
    # Everything gone is no removal.
    assert judged("remove", Fact("removed", 0), scene()).overall == 0
    facts = (Fact("category", 1, value="sofa"), Fact("color", 1, value="blue"), Fact("image_side", 1, value="right"))
    for x, expected in ((1.5, 1.0), (-1.5, 0.0)):
        pair = EditPair(scene(CHAIR), scene(CHAIR, SOFA), "", "add", facts)
        result = true_reading(scene(CHAIR, replace(SOFA, position_m=(x, 4.0))))
        assert edit_score(pair, true_reading(pair.source), result, 1.0, 1.0).change == expected


def test_what_is_replaced_or_smeared_is_not_removed() -> None:
    def removed(*left: SceneObject, pixels_right: float = 1.0, stays: SceneObject = SOFA) -> EditScore:
        pair = EditPair(scene(CHAIR, stays), scene(stays), "", "remove", (Fact("removed", 0),))
        return edit_score(pair, true_reading(pair.source), true_reading(scene(*left)), 1.0, pixels_right)

    for other in (replace(CHAIR, color="green"), replace(SOFA, position_m=CHAIR.position_m, color="red")):
        assert removed(other, SOFA).change == 0
    # What stands elsewhere is no part of the change, and is counted.
    elsewhere = removed(replace(CHAIR, color="green", position_m=(-2.0, 4.0)), SOFA)
    assert (elsewhere.change, elsewhere.unasked) == (1.0, 1.0)
    # An object that stays may have been hidden behind it.
    behind = replace(SOFA, position_m=(0.0, 6.0))
    assert removed(behind, stays=behind).change == 1
    smeared = removed(SOFA, pixels_right=0.25)
    assert (smeared.change, smeared.overall) == (0.25, 0.25)


def test_what_was_not_asked_for_is_counted() -> None:
    source, turned = scene(CHAIR, SOFA), replace(CHAIR, heading_deg=180.0)
    pair = EditPair(source, scene(turned, SOFA), "", "pose", (Fact("facing", 0, value="away"),))
    twice = scene(turned, SOFA, replace(turned, position_m=(-2.0, 5.0)))
    assert edit_score(pair, true_reading(source), true_reading(twice), 1.0, 1.0).unasked == 0.5
    assert edit_score(pair, true_reading(source), true_reading(scene(SOFA)), 1.0, 1.0).unasked == 0.0


def test_the_subject_of_every_kind(prompts: list[EditPrompt]) -> None:
    for prompt in prompts:
        pair = prompt.pair
        index = subject_index(pair)
        if pair.kind == "add":
            assert pair.target.objects[index] not in pair.source.objects
        else:
            assert pair.source.objects[index] not in pair.target.objects


def test_only_untouched_pixels_must_stay() -> None:
    source = torch.zeros(1, 3, 2, 2)
    target, edited = source.clone(), source.clone()
    target[..., 0, 0] = 1.0
    edited[..., 0, 0] = 0.5
    assert pixels_stayed(source, target, edited).item() == 1.0
    assert pixels_changed(source, target, edited).item() == 0.0
    edited[..., 0, 0] = 0.95
    assert pixels_changed(source, target, edited).item() == 1.0
    assert pixels_changed(source, source, edited).item() == 1.0
    edited[..., 1, 1] = 0.2
    assert pixels_stayed(source, target, edited).item() == pytest.approx(2 / 3)
    pair = world.sample_edit(random.Random(0), "move")
    renders = world.render([pair.source, pair.target], 32, 32).rgb
    assert pixels_stayed(renders[:1], renders[1:], renders[1:]).item() == 1.0


def test_a_shuffled_depth_is_of_another_edit_of_the_kind(prompts: list[EditPrompt]) -> None:
    partners = shuffled_partners(prompts)
    for prompt in prompts:
        partner = partners[prompt.number]
        assert partner.number != prompt.number and partner.pair.kind == prompt.pair.kind
    assert len({partner.number for partner in partners.values()}) == len(prompts)


def exported_system(directory: Path, sizes: MiniSizes) -> SystemSampler:
    export_untrained(directory, sizes)
    return SystemSampler(directory, steps=2, bfloat16=False)


def test_the_pixels_that_an_edit_changes_by_hand() -> None:
    """A thousandth is no change, sky that stays sky is none, and sky that is covered is one."""
    source = torch.tensor([[[2.0, 2.0, math.inf, math.inf]]])
    target = torch.tensor([[[2.001, 3.0, math.inf, 9.0]]])
    changed = changed_pixels(source, target)
    assert changed.tolist() == [[[False, True, False, True]]]
    # Of what changes, the first is within a quarter and the second still sky; sky that stays is right.
    assert right(torch.tensor([[[2.0, 2.5, math.inf, math.inf]]]), target, changed).tolist() == [0.5]
    assert right(source, target, ~changed).tolist() == [1.0]
    assert right(torch.tensor([[[2.0, 3.0, 50.0, 9.0]]]), target, ~changed).tolist() == [0.5]


def test_weights_without_a_source_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no source image"):
        edit_drawer(exported_system(tmp_path, without_sources()), FUSION, {}, seed=0)


def test_an_edit_is_drawn_from_its_source_and_its_instruction(tmp_path: Path, prompts: list[EditPrompt]) -> None:
    sampler = exported_system(tmp_path, DUMMY)
    partners = shuffled_partners(prompts)
    draw = edit_drawer(sampler, FUSION, partners, seed=0)
    two = prompts[:2]
    sources = world.render([prompt.pair.source for prompt in two], 32, 32).rgb
    drawn = draw(two, sources)
    assert drawn.shape == sources.shape
    torch.testing.assert_close(draw(two[1:], sources[1:]), drawn[1:], atol=1e-4, rtol=0)
    assert (draw(two, sources.flip(-1)) - drawn).abs().max() > 1e-3
    for scaffold in (BLANK, SHUFFLED, MEAN, ORACLE):
        assert (edit_drawer(sampler, scaffold, partners, seed=0)(two, sources) - drawn).abs().max() > 1e-3
    other = [replace(prompt, pair=replace(prompt.pair, instruction="remove the house")) for prompt in two]
    assert (draw(other, sources) - drawn).abs().max() > 1e-3
    # The depth knows the source as well.
    depths = [sampler.predict(["remove the house"], source[None]).log_depth for source in sources]
    assert (depths[0] - depths[1]).abs().max() > 1e-4

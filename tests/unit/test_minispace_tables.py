"""Intervals, controls, obedience and confidence by hand, and the commands on a dummy system."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sf_model import world
from sf_model.backbones.mini import MINI_DIR
from sf_model.depth.metric_depth import MetricDepth
from sf_model.depth.metrics import boundaries, boundary_f1
from sf_model.evaluation import __main__ as command_line
from sf_model.evaluation.ambiguity import measures
from sf_model.evaluation.bootstrap import Estimate, mean_with_interval, ratio_over_trainings, ratio_with_interval
from sf_model.evaluation.confidence import deciles, rank_correlation
from sf_model.evaluation.editing.depth import SOURCE
from sf_model.evaluation.minispace.prompts import Prompt, minispace_prompts
from sf_model.evaluation.minispace.rows import (
    BUILTIN_ROWS,
    FUSION,
    MISPLACED,
    PromptResult,
    judge,
    run_row,
    scattered_scene,
    shuffled_partners,
    system_drawer,
    true_depth,
    true_renders,
)
from sf_model.evaluation.minispace.table import (
    ALL_FOUND,
    WHERE_FOUND,
    against,
    markdown,
    over_trainings,
    over_trainings_markdown,
    seed_mean,
    seed_means,
    seeds_markdown,
    summarise,
)
from sf_model.evaluation.obedience import obedience, si_rmse
from sf_model.evaluation.recognition import UNASKED, recognised
from sf_model.evaluation.sampling import SystemSampler, no_depth, own_image_size, scene_depth
from sf_model.scene_reader.network import SceneReader
from sf_model.scene_reader.reading import FoundObject
from sf_model.scene_reader.weights import save_reader
from sf_model.world.scene import SceneObject
from tests.unit.dummy_systems import DUMMY, export_untrained, without_sources
from tests.unit.readers import TINY_READER, true_reading


def test_intervals_of_means() -> None:
    steady = mean_with_interval([[40.0] * 5, [60.0] * 5])
    assert (steady.mean, steady.low, steady.high) == (50.0, 50.0, 50.0)
    coin = mean_with_interval([[0.0, 1.0] * 50])
    # Of 100 fair throws: the standard error is 0.05.
    assert coin.mean == 0.5
    assert coin.low == pytest.approx(0.5 - 1.96 * 0.05, abs=0.02)
    assert coin.high == pytest.approx(0.5 + 1.96 * 0.05, abs=0.02)


def test_ratios_resample_both_rows_together() -> None:
    below = [[1.0, 2.0, 3.0, 10.0], [4.0, 4.0]]
    above = [[2 * value for value in scores] for scores in below]
    ratio = ratio_with_interval(above, below)
    assert ratio is not None
    assert (ratio.mean, ratio.low, ratio.high) == pytest.approx((2.0, 2.0, 2.0))
    assert ratio_with_interval([[1.0, 1.0]], [[0.0, 1.0]]) is None


def test_ratios_resample_trainings_by_hand() -> None:
    """Of means 1, 2 and 3 without any doubt about prompts, one of 27 draws of three has a mean of 1, one of 3."""
    above = [[[value] * 4, [value] * 2] for value in (1.0, 2.0, 3.0)]
    below = [[[0.5] * 4, [1.5] * 2]] * 2
    ratio = ratio_over_trainings(above, below, same_trainings=False)
    assert ratio is not None and (ratio.mean, ratio.low, ratio.high) == pytest.approx((2, 1, 3))
    # Trainings that are alike leave the doubt about prompts, which both systems share.
    values = [[1.0, 2.0, 3.0, 10.0], [4.0, 4.0, 5.0, 6.0]]
    less = [[3.0, 2.0, 1.0, 5.0], [1.0, 4.0, 4.0, 4.0]]
    alike = ratio_over_trainings([values] * 3, [less] * 3, same_trainings=False)
    single = ratio_with_interval(values, less)
    assert alike is not None and single is not None and alike.mean == pytest.approx(single.mean)
    assert (alike.low, alike.high) == pytest.approx((single.low, single.high), rel=0.1)
    assert ratio_over_trainings(above, [[[0.0] * 4, [0.0] * 2], below[0]], same_trainings=False) is None
    # Of the same trainings every one has half in the other row: there is no doubt at all.
    halves = [[[value / 2 for value in stratum] for stratum in training] for training in above]
    paired = ratio_over_trainings(above, halves, same_trainings=True)
    assert paired is not None and (paired.mean, paired.low, paired.high) == pytest.approx((2, 2, 2))


def test_rows_are_compared_prompt_by_prompt() -> None:
    prompts = minispace_prompts(seed=0, per_template=2)
    pose = {"camera_pose", "object_pose", "complex_pose"}
    ours = [PromptResult(0.75 if prompt.sub_domain in pose else 0.5, 0.0, 1.0, 1.0, 1, 1.0) for prompt in prompts]
    theirs = [PromptResult(0.25, 0.0, 1.0, 0.5, 1, 0.0) for _ in prompts]
    row = summarise(prompts, theirs)
    assert (row["all"].mean, row["camera_pose"].mean, row["objects"].mean, row["colors"].mean) == (25, 25, 100, 50)
    assert summarise(prompts, ours)["all"].mean == pytest.approx((75 + 50 + 50) / 3)
    compared = against(prompts, {FUSION: ours, "base": theirs}, FUSION)["base"]
    assert compared["pose"]["difference"].mean == 50
    assert compared["pose"]["ratio"].mean == pytest.approx(3)
    assert compared["relation"]["difference"].low == 25
    averaged = seed_mean([ours, theirs])
    assert averaged[0].score == 0.5
    runs = {FUSION: [ours, theirs], "base": [theirs, theirs], "ceiling": [ours]}
    by_seed = seeds_markdown(seed_means(prompts, runs))
    assert by_seed.splitlines()[2:] == [
        "| SpatialFusion, 1 | 58.3 | 75.0 | 50.0 | 50.0 |",
        "| SpatialFusion, 2 | 25.0 | 25.0 | 25.0 | 25.0 |",
        "| base, 1 | 25.0 (2.33x) | 25.0 (3.00x) | 25.0 (2.00x) | 25.0 (2.00x) |",
        "| base, 2 | 25.0 (1.00x) | 25.0 (1.00x) | 25.0 (1.00x) | 25.0 (1.00x) |",
    ]
    assert seeds_markdown(seed_means(prompts, {FUSION: [ours], "base": [theirs]})) == ""
    trainings = over_trainings(prompts, runs)
    assert list(trainings) == ["base"]
    # Pose scores 0.75 or 0.25 against 0.25: of both, of one alone, and in the mean.
    assert trainings["base"]["pose"] == Estimate(*(pytest.approx(value) for value in (2, 1, 3)))
    assert (
        over_trainings_markdown(trainings)
        .splitlines()[-1]
        .startswith("| base | 1.67 [1.00, 2.33] | 2.00 [1.00, 3.00] |")
    )
    assert over_trainings(prompts, {FUSION: [ours], "base": [theirs]}) == {} and over_trainings_markdown({}) == ""


def test_shuffled_depths_are_of_the_same_kind_with_another_claim() -> None:
    prompts = minispace_prompts(seed=0, per_template=2)
    partners = shuffled_partners(prompts)
    for prompt in prompts:
        partner = partners[prompt.number]
        assert partner.sub_domain == prompt.sub_domain and partner.template != prompt.template
        assert len(partner.scene.objects) == len(prompt.scene.objects)
    assert {partner.number for partner in partners.values()} == {prompt.number for prompt in prompts}


def test_chance_has_the_right_objects_where_nobody_asked_for_them() -> None:
    """Its camera distances, say, are those of any scene: a perfect reading scores a fraction."""
    prompts = minispace_prompts(seed=0, per_template=5)
    scenes = [scattered_scene(prompt) for prompt in prompts]
    assert scenes == [scattered_scene(prompt) for prompt in prompts]
    results = [judge(prompt, true_reading(scene)) for prompt, scene in zip(prompts, scenes)]
    assert all((result.objects, result.colors, result.unasked) == (1, 1, 0) for result in results)
    assert 10 < summarise(prompts, results)["all"].mean < 50


def test_an_image_that_shows_more_than_was_asked_is_worth_nothing_to_the_strict() -> None:
    prompts = minispace_prompts(seed=0, per_template=1)
    prompt = prompts[0]
    right = true_reading(prompt.scene)
    crowded = replace(right, objects=(*right.objects, *right.objects))
    alone, beside = judge(prompt, right), judge(prompt, crowded)
    assert alone.score == alone.strict == 1 and alone.unasked == 0
    assert (beside.score, beside.strict, beside.unasked) == (1, 0, 1)
    row = summarise(prompts, [alone, beside] * (len(prompts) // 2))
    assert [row[name].mean for name in ("all", "strict", "unasked")] == pytest.approx([100, 50, 50])


def test_where_found_leaves_out_images_that_lack_an_object() -> None:
    prompts = minispace_prompts(seed=0, per_template=1)
    half = len(prompts) // 2
    results = [PromptResult(0.8, 0.8, 1.0, 1.0, 0.0, 1.0)] * half + [PromptResult(0.0, 0.0, 0.5, 0.5, 0.0, 0.0)] * half
    row = summarise(prompts, results)
    assert (row["all"].mean, row[ALL_FOUND].mean, row[WHERE_FOUND].mean) == pytest.approx((40, 50, 80))
    # Seeds that are alike, of which each finds the objects of other prompts, are summarised as one of them is.
    several = summarise(prompts, seed_mean([results, results[::-1]]))
    assert (several[ALL_FOUND].mean, several[WHERE_FOUND].mean) == pytest.approx((50, 80))
    lost = summarise(prompts, [PromptResult(0.0, 0.0, 0.5, 0.5, 0.0, 0.0)] * len(prompts))
    assert lost[WHERE_FOUND] is None
    assert "| - |" in markdown(prompts, {"lost": [PromptResult(0.0, 0.0, 0.5, 0.5, 0.0, 0.0)] * len(prompts)})


def test_noise_belongs_to_the_prompt(exported: Path) -> None:
    noise = SystemSampler(exported, steps=1).noise
    both = noise([3, 7], seed=1, image_size=16)
    # Of latents: a cell is 8 pixels wide.
    assert both.shape == (2, 4, 2, 2) and noise([3], seed=1).shape == (1, 4, 4, 4)
    assert torch.equal(both[1:], noise([7], seed=1, image_size=16))
    assert not torch.equal(both[1:], noise([7], seed=2, image_size=16))


def test_true_renders_and_depths_are_the_prompts_own() -> None:
    prompts = minispace_prompts(seed=0, per_template=1)[:2]
    rendering = world.render([prompt.scene for prompt in prompts], 32, 32)
    assert torch.equal(true_renders(prompts, 32), rendering.rgb)
    assert torch.equal(true_depth(prompts, 32).depth, rendering.depth_m)


def test_recognised_by_hand() -> None:
    """Two red cars are named and one is seen, with a blue chair: half of the objects, half of the categories, half of
    the colours; what is seen serves once, and what is left was not asked for."""
    cars = [SceneObject("car", "red", (0.0, 5.0), 0.0, (4.0, 2.0, 1.5))] * 2
    place, size = (0.0, 1.0, 5.0), (1.0, 1.0, 1.0)
    car, chair = FoundObject("car", "red", place, size, 0.0), FoundObject("chair", "blue", place, size, 0.0)
    assert recognised([car, chair], cars) == {"object": 0.5, "category": 0.5, "colour": 0.5, UNASKED: 0.5}
    assert recognised([], cars) == {"object": 0.0, "category": 0.0, "colour": 0.0, UNASKED: 0.0}
    assert recognised([car, car, car], cars[:1])[UNASKED] == 2.0
    mixed = FoundObject("car", "blue", place, size, 0.0)
    assert recognised([mixed], cars[:1]) == {"object": 0.0, "category": 1.0, "colour": 0.0, UNASKED: 0.0}


def test_obedience_by_hand() -> None:
    scaffold = torch.tensor([[[1.0, 2.0], [4.0, math.inf]]])
    double = 2 * scaffold
    result = {name: value.item() for name, value in obedience(double, scaffold).items()}
    # One factor for the whole image is no error to SI-RMSE.
    assert result == pytest.approx({"si_rmse": 0.0, "abs_rel": 1.0, "sky": 1.0}, abs=1e-6)
    skewed = torch.tensor([[[math.e, 2.0], [math.inf, math.inf]]])
    # Log errors 1 and 0 over two shared pixels: standard deviation 0.5.
    assert si_rmse(skewed, scaffold).item() == pytest.approx(0.5)
    assert obedience(skewed, scaffold)["sky"].item() == 0.75
    nothing = torch.full_like(scaffold, math.inf)
    assert math.isnan(si_rmse(nothing, scaffold).item())


def test_boundaries_by_hand() -> None:
    """A near object in the middle of a row: 2 m before 4 m, and sky."""
    row = torch.tensor([[[4.0, 2.0, 2.0, 4.0, math.inf]]])
    right, left, below, above = boundaries(row, 0.15)[0, :, 0]
    assert right.tolist() == [False, False, True, True, False]
    assert left.tolist() == [False, True, False, False, False]
    assert not below.any() and not above.any()
    assert torch.equal(boundaries(row.transpose(1, 2), 0.15)[0, 2, :, 0], right)
    # 4.0 m is not 1.25 times farther than 3.4 m, but 1.15 times.
    gentle = torch.tensor([[[3.4, 4.0]]])
    assert boundaries(gentle, 0.15).sum() == 1 and boundaries(gentle, 0.25).sum() == 0


def test_boundary_f1_by_hand() -> None:
    true = torch.tensor([[[4.0, 2.0, 2.0, 4.0, math.inf]]])
    assert boundary_f1(true, true).item() == pytest.approx(1.0)
    # One of the three edges is there, and none too many: precision 1, recall 1/3.
    some = torch.tensor([[[2.0, 2.0, 2.0, 4.0, 4.0]]])
    assert boundary_f1(some, true).item() == pytest.approx(0.5)
    # The same place with the other side in front is no hit.
    assert boundary_f1(torch.tensor([[[2.0, 4.0, 4.0, 4.0, 4.0]]]), true).item() == 0.0
    assert boundary_f1(torch.full_like(true, 3.0), true).item() == 0.0


def test_ambiguity_by_hand() -> None:
    true = torch.tensor([[[4.0, 2.0, 2.0, 4.0]]])
    wrong, near = torch.full_like(true, 9.0), torch.tensor([[[4.0, 4.0, 2.0, 4.0]]])
    values = {name: value.item() for name, value in measures([wrong, near, true], true).items()}
    assert (values["boundary F1"], values["edges"], values["delta1"]) == (0.0, 0.0, 0.0)
    assert values["delta1, best of 3"] == 1.0
    # The pairs differ on all of four pixels, on all, and on one.
    assert values["seeds differ"] == pytest.approx((1 + 1 + 0.25) / 3)
    assert set(measures([true], true)) == {"boundary F1", "edges", "delta1"}


def test_a_system_without_depth_is_drawn_without(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base's adapter gives zeros: no depth is predicted for it."""
    base = shutil.copytree(exported, tmp_path / "base")
    export_untrained(base, without_sources(), adapter=False)
    monkeypatch.setattr(SystemSampler, "scaffold", lambda *_: pytest.fail("a depth was predicted"))
    monkeypatch.setattr("sf_model.evaluation.minispace.command.READER_IMAGES", 8)
    common = ["--reader", str(exported / "reader.safetensors"), "--steps", "1", "--output", str(tmp_path)]
    run_command(monkeypatch, "minispace", "--rows", "floor", "--compare", f"base={base}", "--prompts", "1", *common)
    assert set(json.loads((tmp_path / "minispace.json").read_text(encoding="utf-8"))["rows"]) == {"floor", "base"}


def test_confidence_deciles_by_hand() -> None:
    confidence = torch.linspace(0, 1, 100).flip(0)
    error = 0.4 - 0.3 * confidence
    rows = deciles(confidence, error)
    assert len(rows) == 10
    assert rows[0].confidence < rows[-1].confidence
    assert rank_correlation([row.log_error for row in rows]) == pytest.approx(-1)
    assert rank_correlation([row.confidence for row in rows]) == pytest.approx(1)
    flat = deciles(torch.rand(50, generator=torch.Generator().manual_seed(0)), torch.full((50,), 0.2))
    assert all(row.deserved == pytest.approx(0.5) for row in flat)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dummy system and a tiny reader, both untrained; no layer of the system is zero, as it would be at the start."""
    directory = tmp_path_factory.mktemp("dummy")
    export_untrained(directory, without_sources())
    save_reader(SceneReader(TINY_READER), directory / "reader.safetensors", {})
    return directory


def test_the_scaffolds_reach_the_image(exported: Path) -> None:
    sampler = SystemSampler(exported, steps=2, bfloat16=False)
    prompts = minispace_prompts(seed=0, per_template=1)[:3]
    texts, noise = [prompt.text for prompt in prompts], sampler.noise([0, 1, 2], 0)
    blank = sampler.draw(texts, no_depth(3, 32), noise)
    oracle = sampler.draw(texts, true_depth(prompts, 32), noise)
    assert (blank - oracle).abs().max() > 1e-3
    torch.testing.assert_close(blank[1:], sampler.draw(texts[1:], no_depth(2, 32), noise[1:]), atol=1e-4, rtol=0)


def test_the_default_scaffold_is_the_prompt_s_own_sampled_scene(exported: Path) -> None:
    sampler = SystemSampler(exported, steps=1, bfloat16=False)
    text = "a red car"
    first, again, other = (sampler.scaffold([text], [number], 0).log_depth() for number in (4, 4, 5))
    assert torch.equal(first, again) and not torch.allclose(first, other)
    mean = sampler.predict_depth([text]).log_depth()
    assert not torch.allclose(first, mean)
    for others in ({"depth_steps": 2}, {"depth_guidance": 1.0}):
        otherwise = SystemSampler(exported, steps=1, bfloat16=False, **others).scaffold([text], [4], 0).log_depth()
        assert not torch.allclose(first, otherwise)
    (prompt,) = minispace_prompts(seed=0, per_template=1)[:1]
    rows = {name: system_drawer(sampler, name, {}, 0)([prompt]) for name in (FUSION, "mean depth")}
    noise = sampler.noise([prompt.number], 0)
    assert torch.equal(rows["mean depth"], sampler.draw([prompt.text], sampler.predict_depth([prompt.text]), noise))
    assert not torch.equal(rows[FUSION], rows["mean depth"])
    misplaced = sampler.draw([prompt.text], scene_depth([scattered_scene(prompt)], 32), noise)
    assert torch.equal(system_drawer(sampler, MISPLACED, {}, 0)([prompt]), misplaced)
    assert not torch.equal(misplaced, sampler.draw([prompt.text], true_depth([prompt], 32), noise))


def test_half_precision_draws_the_same_scenes() -> None:
    """The shipped weights; the depth's outputs are in float32 all the same."""
    text, depths = "a red car 4.0 m away, facing left, on the grass", []
    for bfloat16 in (False, True):
        sampler = SystemSampler(MINI_DIR, bfloat16=bfloat16, image_size=64)
        depths += [sampler.predict_depth([text]), sampler.sample_depth([text], [0], 0)]
    for whole, half, bound in ((depths[0], depths[2], 0.004), (depths[1], depths[3], 0.01)):
        both = whole.valid & half.valid
        assert 0 < (whole.log_depth() - half.log_depth())[both].abs().mean() < bound
        assert half.log_depth()[both].unique().numel() > 0.9 * both.sum()


def test_a_row_keeps_the_prompts_order() -> None:
    prompts = minispace_prompts(seed=0, per_template=1)
    seen: list[int] = []

    def draw(batch: list) -> torch.Tensor:
        seen.extend(prompt.number for prompt in batch)
        return torch.zeros(len(batch), 3, 32, 32)

    results = run_row("test", prompts, draw, SceneReader(TINY_READER).eval().requires_grad_(False))
    assert sorted(seen) == [prompt.number for prompt in prompts]
    assert len(results) == len(prompts)


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["evaluation", *arguments])
    command_line.main()


def test_the_minispace_command(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--reader", str(exported / "reader.safetensors"), "--steps", "1", "--output", str(tmp_path)]
    # Two training seeds of a control.
    weights = ["--weights", str(exported), *["--compare", f"data-only={exported}"] * 2]
    monkeypatch.setattr("sf_model.evaluation.minispace.command.READER_IMAGES", 8)
    run_command(monkeypatch, "minispace", *weights, "--prompts", "1", *common)
    written = json.loads((tmp_path / "minispace.json").read_text(encoding="utf-8"))
    assert set(written["rows"]) == {*BUILTIN_ROWS, "data-only"}
    assert written["rows"]["floor"]["all"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    prompts = json.loads((tmp_path / "minispace_prompts.json").read_text(encoding="utf-8"))
    assert len(prompts) == 36
    assert set(prompts[0]["results"]) == set(written["rows"])
    assert [len(written["training_seeds"][name]) for name in (FUSION, "data-only")] == [1, 2]
    assert written["over_trainings"] == {}
    # The same weights from the same noise.
    assert written["rows"]["data-only"] == written["rows"][FUSION]
    assert {"commit", "seed", "reader_sha256", "weights"} <= set(written["run"])
    assert written["run"]["image_size"] == DUMMY.image_size
    table = (tmp_path / "minispace.md").read_text(encoding="utf-8")
    assert "| floor | 0.0 [0.0, 0.0] |" in table
    assert "SpatialFusion against" in table
    assert "| floor | 0.0 [0.0, 0.0] |" in capsys.readouterr().out


def test_every_system_is_drawn_at_the_first_one_s_size(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader sees every row through the same pixels; the Mini's own are more."""
    drawn: list[int] = []
    draw = SystemSampler.draw

    def seen(sampler: SystemSampler, texts: list[str], depth: MetricDepth, noise: torch.Tensor) -> torch.Tensor:
        drawn.append(noise.shape[-1])
        return draw(sampler, texts, depth, noise)

    monkeypatch.setattr(SystemSampler, "draw", seen)
    monkeypatch.setattr("sf_model.evaluation.minispace.command.READER_IMAGES", 8)
    systems = ["--weights", str(exported), "--compare", "mini=builtin", "--rows", "floor", "--prompts", "1"]
    reader = ["--reader", str(exported / "reader.safetensors"), "--output", str(tmp_path)]
    run_command(monkeypatch, "minispace", *systems, *reader, "--steps", "1")
    assert set(drawn) == {DUMMY.image_size}
    run = json.loads((tmp_path / "minispace.json").read_text(encoding="utf-8"))["run"]
    assert run["image_size"] == DUMMY.image_size
    assert [entry["directory"] for entry in run["weights"]] == [str(exported), "builtin"]
    sizes = [DUMMY.image_size, own_image_size(MINI_DIR)]
    assert [entry["image_size"] for entry in run["weights"]] == sizes


@pytest.mark.parametrize(
    ("commit", "kept"), [("0123456789ab", True), ("0123456789ab-dirty", False), ("unknown", False)]
)
def test_rows_that_are_there_are_not_measured_again(
    commit: str, kept: bool, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are they after an end halfway; other weights, settings and code that cannot be told are."""
    measured: list[str] = []
    ends = ["ceiling"]

    def counted(label: str, prompts: list[Prompt], *_: Any) -> list[PromptResult]:
        """What a row scores does not matter here, and drawing takes seconds."""
        if label in ends:
            raise RuntimeError(ends.pop())
        measured.append(label)
        return [PromptResult(len(label) / 99, 0.0, 1.0, 1.0, 0, 1.0)] * len(prompts)

    monkeypatch.setattr("sf_model.evaluation.minispace.command.run_row", counted)
    monkeypatch.setattr("sf_model.evaluation.minispace.command.READER_IMAGES", 8)
    monkeypatch.setattr("sf_model.evaluation.arguments.current_commit", lambda: commit)
    common = ["--reader", str(exported / "reader.safetensors"), "--steps", "1", "--output", str(tmp_path)]
    compare = ["--compare", f"../data only={exported}"]
    rows = ["minispace", "--prompts", "1", "--rows", "floor", "ceiling", *compare, *common]
    with pytest.raises(RuntimeError, match="ceiling"):
        run_command(monkeypatch, *rows)
    assert measured == ["floor"]
    run_command(monkeypatch, *rows)
    first = (tmp_path / "minispace.json").read_text(encoding="utf-8")
    system = f"../data only ({exported.name})"
    assert measured == ["floor", *([] if kept else ["floor"]), "ceiling", system]
    measured.clear()
    run_command(monkeypatch, *rows)
    assert measured == ([] if kept else ["floor", "ceiling", system])
    assert (tmp_path / "minispace.json").read_text(encoding="utf-8") == first
    assert all(path.parent == tmp_path / "rows" for path in tmp_path.rglob("*data-only*"))
    measured.clear()
    run_command(monkeypatch, *rows, "--seed", "3")
    assert measured == ["floor", "ceiling", system]
    measured.clear()
    other = shutil.copytree(exported, tmp_path / "other")
    export_untrained(other, without_sources(), adapter=False)
    run_command(monkeypatch, *rows, "--seed", "3", "--compare", f"base={other}")
    assert measured == (["base (other)"] if kept else ["floor", "ceiling", system, "base (other)"])


def test_what_cannot_be_run_is_named_before_anything_is_drawn(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match="no such scene reader"):
        run_command(monkeypatch, "minispace", "--reader", str(tmp_path / "none.safetensors"))
    reader = ["--reader", str(exported / "reader.safetensors")]
    with pytest.raises(SystemExit, match="choose another"):
        run_command(monkeypatch, "minispace", *reader, "--compare", f"floor={exported}")
    with pytest.raises(SystemExit, match="no folder that"):
        run_command(monkeypatch, "minispace", *reader, "--weights", str(tmp_path))


def test_the_other_commands(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--reader", str(exported / "reader.safetensors"), "--steps", "1", "--output", str(tmp_path)]
    weights = ["--weights", str(exported)]
    monkeypatch.setattr("sf_model.evaluation.editing.command.READER_IMAGES", 8)
    run_command(monkeypatch, "edit", *weights, "--rows", "floor", "ceiling", "--prompts", "2", *common)
    edits = json.loads((tmp_path / "edit.json").read_text(encoding="utf-8"))
    assert list(edits["rows"]) == ["floor", "ceiling"]
    assert edits["rows"]["ceiling"]["pixels_stayed"]["mean"] == 100.0
    assert set(edits["reader"]) == {"renders", "degraded renders"}
    assert "| objects found |" in (tmp_path / "edit.md").read_text(encoding="utf-8")
    with pytest.raises(SystemExit, match="no source image"):
        run_command(monkeypatch, "edit", *weights, "--rows", FUSION, "--prompts", "1", *common)
    run_command(monkeypatch, "edit", *weights, "--prompts", "1", *common)
    message = f"not trained to edit: {exported}; only floor, unchanged and ceiling are measured"
    assert message in capsys.readouterr().out
    editing = ["--weights", str(tmp_path / "editing")]
    export_untrained(tmp_path / "editing", DUMMY)
    # Two training seeds, and another system.
    more = [str(tmp_path / "editing"), "--compare", f"data-only={tmp_path / 'editing'}"]
    run_command(monkeypatch, "edit", *editing, *more, "--prompts", "1", *common)
    edits = json.loads((tmp_path / "edit.json").read_text(encoding="utf-8"))
    rows = edits["rows"]
    scaffolds = ["blank depth", "shuffled depth", "mean depth", FUSION, "oracle depth"]
    assert list(rows) == ["floor", "unchanged", "data-only", *scaffolds, "ceiling"]
    prompts = json.loads((tmp_path / "edit_prompts.json").read_text(encoding="utf-8"))
    assert [len(prompts[0]["results"][name]) for name in (FUSION, "data-only")] == [2, 1]
    depths = edits["depth"]
    assert list(depths) == [SOURCE, "mean depth", FUSION]
    own = depths[SOURCE]
    assert own["right, left alone"]["mean"] == 1.0 > own["right, changed"]["mean"] and own["AbsRel, changed"] is None
    assert depths[FUSION]["SI-RMSE, left alone"]["mean"] > 0 < depths[FUSION]["AbsRel, changed"]["mean"]
    assert f"| {SOURCE} |" in (tmp_path / "edit.md").read_text(encoding="utf-8")
    # The same weights from the same noise.
    assert rows["data-only"] == rows[FUSION]
    assert rows["floor"]["overall"]["mean"] == rows["unchanged"]["overall"]["mean"] == 0.0
    assert rows["unchanged"]["pixels_stayed"]["mean"] == 100.0 > rows["floor"]["pixels_stayed"]["mean"]
    with pytest.raises(SystemExit, match="row of this name already"):
        run_command(monkeypatch, "edit", *editing, "--compare", f"ceiling={tmp_path / 'editing'}", *common)

    run_command(monkeypatch, "obedience", "--weights", str(exported), "--images", "3", *common)
    obeyed = json.loads((tmp_path / "obedience.json").read_text(encoding="utf-8"))["table"]
    assert all(math.isfinite(cell["mean"]) for row in obeyed.values() for cell in row.values())
    export_untrained(tmp_path / "base", without_sources(), adapter=False)
    with pytest.raises(SystemExit, match="two captions at least"):
        run_command(monkeypatch, "obedience", "--weights", str(exported), "--images", "1", *common)
    with pytest.raises(SystemExit, match="adapter was not trained"):
        run_command(monkeypatch, "obedience", "--weights", str(tmp_path / "base"), *common)

    run_command(monkeypatch, "recognition", "--weights", str(exported), "--images", "3", *common)
    seen = json.loads((tmp_path / "recognition.json").read_text(encoding="utf-8"))["table"]
    assert list(seen) == ["plain", "free"]
    assert list(seen["plain"])[1:5] == ["true depth", "sampled depth", "mean depth", "no depth"]
    shares = [(name, cell["mean"]) for rows in seen.values() for row in rows.values() for name, cell in row.items()]
    assert all(mean >= 0 and (mean <= 100 or name == UNASKED) for name, mean in shares)

    run_command(monkeypatch, "confidence", "--weights", str(exported), "--images", "4", "--output", str(tmp_path))
    confidence = json.loads((tmp_path / "confidence.json").read_text(encoding="utf-8"))["table"]
    assert {name: len(rows) for name, rows in confidence.items()} == {"mean": 10, "sampled": 10}
    assert confidence["mean"] != confidence["sampled"]
    assert capsys.readouterr().out.count("rank correlation") == 2

    run_command(monkeypatch, "ambiguity", "--weights", str(exported), "--images", "3", "--output", str(tmp_path))
    ambiguity = json.loads((tmp_path / "ambiguity.json").read_text(encoding="utf-8"))["table"]
    assert set(ambiguity) == {"free", "plain"} and set(ambiguity["free"]) == {"mean", "sampled"}
    assert "delta1, best of 4" in (tmp_path / "ambiguity.md").read_text(encoding="utf-8")

"""MiniSpace on layouts: the true ones score in full, and what is measured is what was drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sf_model.evaluation import __main__ as command_line
from sf_model.evaluation.layouts import drawer, free_figures, objects_of, sub_domain_scores
from sf_model.evaluation.minispace.prompts import minispace_prompts
from sf_model.models.layout import Layout
from sf_model.training.data.layouts import layouts_of
from sf_model.training.export import load_exported
from sf_model.training.layout_figures import layout_figures
from tests.unit.dummy_systems import DUMMY, export_untrained

OBJECTS = DUMMY.spatialfusion.layout.objects


def layouts_for(prompts: list) -> Layout:
    scenes = [prompt.scene for prompt in prompts]
    return layouts_of(scenes, [range(len(scene.objects)) for scene in scenes], OBJECTS)


def test_layouts_of_the_prompts_own_scenes_score_as_the_scenes_do() -> None:
    prompts = minispace_prompts(seed=3, per_template=1)
    by_number = {prompt.number: prompt for prompt in prompts}
    drawn = sub_domain_scores(lambda _, numbers: layouts_for([by_number[n] for n in numbers]), prompts)
    true = sub_domain_scores(None, prompts)
    assert true["all"].mean > 95
    for name, estimate in true.items():
        assert drawn[name].mean == pytest.approx(estimate.mean, abs=0.5), name


def test_another_prompt_s_layout_scores_nothing() -> None:
    """Its objects are others."""
    prompts = minispace_prompts(seed=3, per_template=1)
    shifted = prompts[7:] + prompts[:7]
    other = {prompt.number: partner for prompt, partner in zip(prompts, shifted)}
    scores = sub_domain_scores(lambda _, numbers: layouts_for([other[n] for n in numbers]), prompts)
    assert scores["all"].mean < 10


def test_absent_objects_are_none() -> None:
    prompt = minispace_prompts(seed=3, per_template=1)[0]
    layout = layouts_for([prompt])
    objects, camera = objects_of(layout, 0)
    assert len(objects) == len(prompt.scene.objects) and camera.fov_y_deg == pytest.approx(
        prompt.scene.camera.fov_y_deg
    )
    none, _ = objects_of(replace(layout, present=torch.zeros_like(layout.present)), 0)
    assert none == []


def test_figures_by_hand() -> None:
    """Of two objects the one is named, placed and turned; of the other nothing is right."""
    prompts = [prompt for prompt in minispace_prompts(seed=3, per_template=1) if len(prompt.scene.objects) == 2][:1]
    true = layouts_for(prompts)
    color, position, heading = true.color.clone(), true.position_m.clone(), true.heading_deg.clone()
    color[0, 1] = color[0, 1].roll(1)
    position[0, 1, 1] *= 2
    heading[0, 1] += 40
    wrong = replace(true, color=color, position_m=position, heading_deg=heading)
    figures = layout_figures(wrong, true, true.present > 0.5)
    assert figures == {"named": 0.5, "placed": 0.5, "turned": 0.5, "counted": 1.0}


def test_the_command_measures_an_exported_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_untrained(tmp_path / "weights", DUMMY)
    command = ["layouts", "--weights", str(tmp_path / "weights"), "--prompts", "1", "--steps", "2"]
    monkeypatch.setattr("sys.argv", ["evaluation", *command, "--output", str(tmp_path / "out")])
    monkeypatch.setattr("sf_model.evaluation.layouts.FREE_CAPTIONS", 4)
    command_line.main()
    report = json.loads((tmp_path / "out" / "layouts.json").read_text(encoding="utf-8"))
    assert report["run"]["steps"] == 2 and report["run"]["weights_sha256"]
    assert report["table"]["minispace"]["true"]["all"]["mean"] > 95
    assert set(report["table"]["free"]) == {"named", "placed", "turned", "counted"}
    assert "| drawn |" in (tmp_path / "out" / "layouts.md").read_text(encoding="utf-8")


def test_a_seed_and_a_number_decide_a_layout(tmp_path: Path) -> None:
    export_untrained(tmp_path, DUMMY)
    system = load_exported(tmp_path)
    draw = drawer(system, seed=1, steps=2, guidance=1.5)
    both = draw(["a red car", "a blue chair"], [4, 5])
    torch.testing.assert_close(draw(["a blue chair"], [5]).position_m, both.position_m[1:], rtol=1e-4, atol=1e-4)
    assert not torch.equal(drawer(system, 2, 2, 1.5)(["a blue chair"], [5]).position_m, both.position_m[1:])
    assert set(free_figures(draw, 0, 3)) == {"named", "placed", "turned", "counted"}
    system.predictor.layout = None
    with pytest.raises(ValueError, match="choose other weights: these draw no layouts"):
        drawer(system, 1, 2, 1.5)

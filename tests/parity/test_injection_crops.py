"""A latent that is a part of the image gets that part of the depth: what the whole latent would get there."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.parity.test_injection_runs import PLACES, Setting

WHOLE = (1, 24, 16)  # batch, rows, columns of the latent; the depth is 96 x 64
# Shares (left, top, width, height) and the cells that they are. The tiny models' patches are 2 x 2.
PARTS = [
    ((0, 0, 0.5, 0.5), (0, 0, 12, 8)),
    ((0.5, 0.25, 0.5, 0.5), (6, 8, 12, 8)),
    ((0.25, 0.5, 0.5, 0.5), (12, 4, 12, 8)),
]


@pytest.fixture(params=PLACES)
def setting(request: pytest.FixtureRequest, nodes: ModuleType, tiny_bases: ModuleType, tmp_path: Path) -> Setting:
    return Setting("omnigen2", request.param, nodes, tiny_bases, tmp_path)


def features(setting: Setting, size: tuple[int, int, int], part: Any = None) -> torch.Tensor:
    """F of the first call of a run. part: in the options of the run."""
    crops = setting.nodes.runtime.crops
    run_class = setting.nodes.runtime.injection.InjectionRun
    seen: list[torch.Tensor] = []
    original = run_class.features_for

    def watched(run: Any, *arguments: Any) -> torch.Tensor | None:
        seen.append(original(run, *arguments))
        return seen[-1]

    model = setting.model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_class, "features_for", watched)
        if part is not None:
            model = model.clone()
            model.model_options["transformer_options"][crops.CROP_KEY] = part
        setting.sample(setting.noise(size, 1), model)
    return seen[0][:1]


@pytest.mark.parametrize("part, cells", PARTS)
def test_a_part_gets_what_the_whole_latent_gets_there(setting: Setting, part: Any, cells: Any) -> None:
    whole = features(setting, WHOLE)
    top, left, rows, columns = cells
    patch = setting.loaded.backbone.patch_size if whole.shape[-2] < WHOLE[1] else 1
    expected = whole[..., top // patch : (top + rows) // patch, left // patch : (left + columns) // patch]
    tile = features(setting, (1, rows, columns), part=part)
    torch.testing.assert_close(tile, expected)
    assert not torch.allclose(tile, features(setting, (1, rows, columns)))  # the whole depth, shrunk


def test_parts_are_told_on_the_node_or_in_the_options(setting: Setting) -> None:
    crops = setting.nodes.runtime.crops
    assert crops.told_part(0, 0, 0, 0) is None
    assert crops.part_of_run({}, None) == crops.Part()  # no server runs here, so nothing is known
    told = crops.told_part(0.5, 0, 0.5, 1)
    assert crops.part_of_run({}, told) == told
    assert crops.part_of_run({crops.CROP_KEY: (0, 0, 0.25, 0.25)}, told) == crops.Part(0, 0, 0.25, 0.25)
    for wrong in ((0.6, 0, 0.5, 1), (0, 0, 0, 1), (-0.1, 0, 0.5, 1), (0, 0.9, 1, 0.2)):
        with pytest.raises(ValueError, match="set crop_x, crop_y, crop_width and crop_height to a part of the image"):
            crops.told_part(*wrong)


def test_a_part_has_its_own_aspect_ratio(setting: Setting) -> None:
    """The left half of a depth of 64 x 96 is 32 x 96."""
    with pytest.raises(ValueError, match="the part of the geometry is 32x96 .* and the latent 16x24"):
        features(setting, WHOLE, part=(0, 0, 0.5, 1))
    assert features(setting, (1, 24, 8), part=(0, 0, 0.5, 1)).shape[0] == 1

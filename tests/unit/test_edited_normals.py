"""Normals through edits: kept where the surface was only scaled, else those of the new depth."""

from __future__ import annotations

import torch

from sf_model.depth.editing import DepthAdjustment, adjust_depth, blend_depths
from sf_model.depth.images import surface_normals
from sf_model.depth.metric_depth import MetricDepth
from sf_model.depth.normals import adjusted_normals, blended_normals, resized_normals


def slanted(height: int = 24, width: int = 32, fov_y_deg: float = 60.0) -> MetricDepth:
    """A slanted plane with a sky above."""
    rows = torch.linspace(0, 1, height).view(1, -1, 1)
    depth = (1 / (0.1 + 0.3 * rows + 0.2 * torch.linspace(0, 1, width))).contiguous()
    depth[:, :3] = torch.inf
    return MetricDepth(depth, torch.ones_like(depth), torch.tensor([fov_y_deg]))


def marked(depth: MetricDepth, seed: int = 0) -> torch.Tensor:
    """Unit normals that no depth gives, so that kept ones are seen."""
    normals = torch.randn(*depth.depth.shape, 3, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(normals, dim=-1)


def adjusted(adjustment: DepthAdjustment, mask: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """The normals after an edit, and which of the marked ones were kept."""
    before = slanted()
    normals = adjusted_normals(adjust_depth(before, adjustment, mask), before, marked(before))
    return normals, (normals == marked(before)).all(dim=-1)


def test_an_edit_that_scales_everything_keeps_all() -> None:
    for adjustment in (DepthAdjustment(), DepthAdjustment(scale=2.5), DepthAdjustment(distance_m=3.0)):
        _, kept = adjusted(adjustment)
        assert torch.equal(kept, slanted().valid)


def test_a_region_that_moves_keeps_its_normals_to_its_edge() -> None:
    mask = torch.zeros(1, 24, 32)
    mask[:, 8:16, 8:16] = 1
    _, kept = adjusted(DepthAdjustment(distance_m=2.0), mask)
    assert torch.equal(kept, slanted().valid)


def test_a_soft_edge_and_a_shift_are_computed_anew() -> None:
    ramp = torch.linspace(0, 1, 32).expand(1, 24, 32)
    before = slanted()
    for adjustment, mask in ((DepthAdjustment(scale=2.0), ramp), (DepthAdjustment(shift_m=1.0), None)):
        normals, kept = adjusted(adjustment, mask)
        assert not kept[:, 4:-1, 1:-1].any()
        expected = surface_normals(adjust_depth(before, adjustment, mask))
        torch.testing.assert_close(normals[:, 4:-1, 1:-1], expected[:, 4:-1, 1:-1])


def test_a_blend_takes_the_normals_of_what_it_takes() -> None:
    first, second = slanted(), MetricDepth(slanted().depth * 1.7, slanted().confidence, slanted().fov_y_deg)
    second.depth[:, :3] = 9.0  # a wall where the first has sky
    mask = torch.zeros(1, 24, 32)
    mask[:, :, 16:] = 1
    blended = blend_depths(first, second, mask)
    normals = blended_normals(blended, [(first, marked(first, 1)), (second, marked(second, 2))])
    assert torch.equal(normals[:, 3:, :16], marked(first, 1)[:, 3:, :16])
    assert torch.equal(normals[:, :, 16:], marked(second, 2)[:, :, 16:])
    assert (normals[:, :3, :16] == 0).all()  # sky


def test_normals_take_another_size_without_mixing() -> None:
    normals = marked(slanted())
    larger = resized_normals(normals, 48, 64)
    assert torch.equal(larger[:, ::2, ::2], normals) and torch.equal(larger[:, 1::2, 1::2], normals)
    assert resized_normals(normals, 24, 32) is normals

"""The host's own MoGe and Depth Anything 3, tiny and with random weights: what their nodes give is what ours take.

The pictures of Metric Depth to Images agree with those of the host's render nodes. The oldest host has neither.
"""

from __future__ import annotations

import math
from types import ModuleType, SimpleNamespace
from typing import Any

import comfy.cli_args
import comfy.ldm.depth_anything_3.model as da3
import comfy.ldm.moge.model as moge
import comfy.model_patcher
import comfy.ops
import comfy_extras.nodes_depth_anything_3 as da3_nodes
import comfy_extras.nodes_moge as moge_nodes
import pytest
import torch

HEIGHT, WIDTH = 56, 84
TINY_VIT = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 1, "use_swiglu_ffn": False}


def randomize(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The host leaves weights uninitialised."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.08
    return module.eval()


def images(count: int) -> torch.Tensor:
    return torch.rand(count, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(1))


def stack_sizes(dim_in: list[int], dim_out: list[int | None]) -> dict[str, Any]:
    blocks = len(dim_in)
    return {
        "dim_in": dim_in,
        "dim_res_blocks": [8] * blocks,
        "dim_out": dim_out,
        "num_res_blocks": [1] * blocks,
        "resamplers": ["conv_transpose"] * (blocks - 1),
    }


@pytest.fixture(scope="module")
def moge_geometry() -> dict[str, torch.Tensor]:
    """From Run MoGe Inference with a MoGe 2."""
    head = [8] * 5
    model = moge.MoGeModelV2(
        encoder={
            "backbone": {**TINY_VIT, "layer_norm_eps": 1e-6},
            "intermediate_layers": [0, 1, 2, 3],
            "dim_out": 8,
        },
        neck=stack_sizes([10, 2, 2, 2, 2], [8] * 5),
        points_head=stack_sizes(head, [None] * 4 + [3]),
        mask_head=stack_sizes(head, [None] * 4 + [1]),
        normal_head=stack_sizes(head, [None] * 4 + [3]),
        scale_head={"dims": [64, 8, 1]},
        dtype=torch.float32,
        operations=comfy.ops.manual_cast,
    )
    with pytest.MonkeyPatch.context() as patch:
        # As --fp32-text-enc: MoGe runs in the text encoder's type, and its half precision has no resizing on the CPU.
        patch.setattr(comfy.cli_args.args, "fp32_text_enc", True)
        loaded = moge.MoGeModel(randomize(model, seed=2).state_dict())
        return moge_nodes.MoGeInference.execute(loaded, images(2), 0, 60.0, 4, True, True).args[0]


def da3_geometry(views: int, head: str, mode: str, pose_method: str = "cam_dec") -> dict[str, Any]:
    """From Run Depth Anything 3; head "dpt" as Metric and Mono have it, "dualdpt" as Small and Base."""
    dual = head == "dualdpt"
    start = 1 if dual else -1
    sizes = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2, "use_swiglu_ffn": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(da3._BACKBONE_PRESETS, "vits", sizes)
        net = da3.DepthAnything3Net(
            "vits",
            out_layers=(0, 1, 2, 3),
            alt_start=start,
            qknorm_start=start,
            rope_start=start,
            cat_token=dual,
            head_type=head,
            head_dim_in=128 if dual else 64,
            head_output_dim=2 if dual else 1,
            head_features=16,
            head_out_channels=(8, 8, 8, 8),
            head_use_sky_head=not dual,
            has_cam_dec=dual,
            dtype=torch.float32,
            operations=comfy.ops.manual_cast,
        )
    wrapper = torch.nn.Module()
    wrapper.diffusion_model = randomize(net)
    device = torch.device("cpu")
    patcher = comfy.model_patcher.CoreModelPatcher(wrapper, load_device=device, offload_device=device)
    options = {"mode": mode, "pose_method": pose_method, "ref_view_strategy": "first"}
    return da3_nodes.DA3Inference.execute(patcher, images(views), 140, "upper_bound_resize", options).args[0]


@torch.no_grad()
def test_moge_is_taken_as_it_is(nodes: ModuleType, moge_geometry: dict[str, torch.Tensor]) -> None:
    depth = nodes.host.geometry.to_metric_depth(moge_geometry)
    assert torch.equal(depth.depth, moge_geometry["depth"])
    assert depth.valid.float().mean() > 0.05
    torch.testing.assert_close(depth.intrinsics(), moge_geometry["intrinsics"])
    inside = depth.valid
    torch.testing.assert_close(depth.points()[inside], moge_geometry["points"][inside], rtol=1e-4, atol=1e-4)
    # 60 degrees across at 84 x 56
    expected = math.degrees(2 * math.atan(math.tan(math.radians(30)) * HEIGHT / WIDTH))
    assert depth.fov_y_deg.tolist() == pytest.approx([expected] * 2, abs=1e-3)


def test_depth_anything_metric_becomes_metres(nodes: ModuleType) -> None:
    geometry = da3_geometry(2, "dpt", "mono")
    assert geometry.keys() == {"depth", "image", "mode", "sky"}
    depth = nodes.host.geometry.to_metric_depth(geometry, da3_run=nodes.host.da3.Da3Run(140))
    surface = geometry["sky"] < 0.5
    assert torch.equal(depth.valid, surface)
    # It ran at 140 x 98 pixels: 0.7 * 140 / 300 across, 0.7 * 84 / 56 * 98 / 300 down.
    metres = geometry["depth"][surface] * (0.7 * 140 + 0.7 * 1.5 * 98) / 2 / 300
    torch.testing.assert_close(depth.depth[surface], metres, rtol=1e-5, atol=0)
    focal_px = 0.5 * HEIGHT / math.tan(math.radians(depth.fov_y_deg[0].item() / 2))
    host_focal_px = da3_nodes._da3_get_K(geometry, 0, HEIGHT, WIDTH)[1, 1].item()
    assert focal_px == pytest.approx(host_focal_px, rel=1e-5)


@pytest.mark.parametrize("views, pose_method", [(3, "cam_dec"), (3, "ray_pose"), (1, "cam_dec")])
def test_depth_anything_views_need_a_scale(nodes: ModuleType, views: int, pose_method: str) -> None:
    """The intrinsics of several views, (1, S, 3, 3), are pixels of the size that the model ran at: 140 x 98 here."""
    geometry = da3_geometry(views, "dualdpt", "multiview", pose_method)
    assert geometry["intrinsics"].shape == (1, views, 3, 3)
    assert geometry["depth"].shape == (views, HEIGHT, WIDTH)
    with pytest.raises(ValueError, match="Adjust Metric Depth.*not in metres"):
        nodes.host.geometry.to_metric_depth(geometry)
    adjusted = nodes.SpatialFusionAdjustDepth.execute(geometry, 1.0, 0.0, 5.0, "whole image", 0.0, 0.0).args[0]
    depth = nodes.host.geometry.to_metric_depth(adjusted)
    for index in range(views):
        image = geometry["depth"][index]
        torch.testing.assert_close(depth.depth[index], image * (5 / image.median()))
    matrices = geometry["intrinsics"][0]
    if views == 1:  # the host has no camera then
        assert torch.equal(matrices[0], torch.eye(3))
    ratios = [float(matrix[1, 2] / matrix[1, 1]) for matrix in matrices]
    # Random weights solve for nonsense with ray_pose: such a camera counts as none.
    expected = [ratio if ratio > 0 else 0.5 * HEIGHT / (0.7 * WIDTH) for ratio in ratios]
    assert depth.fov_y_deg.tolist() == pytest.approx([math.degrees(2 * math.atan(r)) for r in expected], abs=1e-3)
    assert pose_method == "ray_pose" or views == 1 or min(ratios) > 0


def test_the_field_of_view_of_views_is_the_one_that_the_host_decoded(nodes: ModuleType) -> None:
    """The host's own decoder of poses: fov_y goes in, pixels come out; we must find fov_y again."""
    pose = torch.tensor([[[0.0, 0, 0, 0, 0, 0, 1, math.radians(48.0), math.radians(70.0)]]])
    _, intrinsics = da3.pose_encoding_to_extri_intri(pose, (98, 140))
    depth = torch.full((1, HEIGHT, WIDTH), 2.0)
    geometry = {"depth": depth, "mode": "multiview", "intrinsics": intrinsics, "sky": torch.zeros_like(depth)}
    assert nodes.host.geometry.to_metric_depth(geometry).fov_y_deg.item() == pytest.approx(48.0, abs=1e-3)


def test_the_hosts_cameras_look_through_the_centre_and_others_are_refused(
    nodes: ModuleType, moge_geometry: dict[str, torch.Tensor]
) -> None:
    assert (moge_geometry["intrinsics"][:, :2, 2] == 0.5).all()
    for x, y in ((0.6, 0.5), (0.5, 0.4), (math.nan, 0.5)):
        cropped = moge_geometry["intrinsics"].clone()
        cropped[1, :2, 2] = torch.tensor([x, y])
        with pytest.raises(ValueError, match=f"principal point is off the centre, at {x:.2f} of its width and {y:.2f}"):
            nodes.host.geometry.to_metric_depth(moge_geometry | {"intrinsics": cropped})
    cropped[1, :2, 2] = torch.tensor([0.54, 0.47])  # what rounding to whole pixels may make
    nodes.host.geometry.to_metric_depth(moge_geometry | {"intrinsics": cropped})


def scene() -> dict[str, torch.Tensor]:
    """A ground, a wall and a sphere under a sky, as a MOGE_GEOMETRY without the model's normals."""
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    y, x = (rows + 0.5) / HEIGHT * 2 - 1, ((columns + 0.5) / WIDTH * 2 - 1) * WIDTH / HEIGHT
    depth = torch.where(y > 0.02, 1.5 / y.clamp_min(0.02), torch.inf)
    depth = torch.where(x > 0.8, torch.minimum(depth, 3 / x), depth)
    ball = (x**2 + y**2) < 0.2
    depth = torch.where(ball, 2 - (0.2 - x**2 - y**2).clamp_min(0).sqrt(), depth).unsqueeze(0)
    focal = torch.tensor([[[0.5 * HEIGHT / WIDTH, 0, 0.5], [0, 0.5, 0.5], [0, 0, 1]]])
    mask = torch.isfinite(depth)
    points = moge.depth_map_to_point_map(depth, focal)
    points = torch.where(mask.unsqueeze(-1), points, torch.full_like(points, torch.inf))
    return {
        "depth": depth,
        "mask": mask,
        "intrinsics": focal,
        "points": points,
        "image": torch.zeros(1, HEIGHT, WIDTH, 3),
    }


def pictures(nodes: ModuleType, geometry: dict[str, torch.Tensor], convention: str) -> SimpleNamespace:
    depth, mask, normals = nodes.SpatialFusionDepthToImages.execute(geometry, 0, 0, 0, 0, convention, "each image").args
    return SimpleNamespace(depth=depth, mask=mask, normals=normals)


@pytest.mark.parametrize("source", ["scene", "moge"])
@pytest.mark.parametrize("convention", ["opengl", "directx"])
def test_pictures_are_the_hosts(
    nodes: ModuleType, moge_geometry: dict[str, torch.Tensor], source: str, convention: str
) -> None:
    """Depth and mask everywhere. Normals: where MoGe 2 gives them everywhere, else inside surfaces, since the host
    leaves the image's border and mixes the sky in beside it."""
    geometry = scene() if source == "scene" else moge_geometry
    ours = pictures(nodes, geometry, convention)
    render = moge_nodes.MoGeRender.execute
    torch.testing.assert_close(ours.depth, render(geometry, "depth").args[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.mask, render(geometry, "mask").args[0][..., 0].float(), rtol=0, atol=0)
    host_normals = render(geometry, f"normal_{convention}").args[0]
    inside = torch.ones_like(geometry["mask"])
    if source == "scene":
        around = torch.nn.functional.pad(geometry["mask"].float(), (1, 1, 1, 1))
        inside = -torch.nn.functional.max_pool2d(-around, 3, stride=1) > 0
        assert 0.3 < inside.float().mean() < 1
    torch.testing.assert_close(ours.normals[inside], host_normals[inside], rtol=0, atol=1e-4)


def test_near_is_white_as_depth_anything_renders_it(nodes: ModuleType) -> None:
    geometry = scene()
    ours = pictures(nodes, geometry, "opengl").depth[0, ..., 0]
    sky = (~geometry["mask"]).float()
    metres = torch.where(geometry["mask"], geometry["depth"], torch.full_like(geometry["depth"], 100.0))
    host = da3_nodes.DA3Render._depth_to_image(metres, sky, "v2_style")[0, ..., 0]
    surface = geometry["mask"][0]
    order = torch.corrcoef(torch.stack([ours[surface], host[surface]]).argsort().argsort().float())[0, 1]
    assert order > 0.95
    assert (ours[~surface] == 0).all() and (host[~surface] == 0).all()


def test_measured_normals_come_through_adjust_blend_and_loosen(nodes: ModuleType) -> None:
    """As MoGe 2 measures them. The random ones here are no depth's, so that kept ones are seen."""
    given = torch.nn.functional.normalize(images(1) - 0.5, dim=-1)
    geometry = scene() | {"normal": given}
    adjust, surface = nodes.SpatialFusionAdjustDepth.execute, geometry["mask"]
    scaled = adjust(geometry, 2.0, 0.0, 0.0, "region", 0.0, 0.0).args[0]
    kept = (scaled["normal"] == given).all(dim=-1)
    assert kept[surface].float().mean() > 0.98  # pixels alone between skies have no neighbour to compare with
    shifted = adjust(geometry, 1.0, 1.0, 0.0, "region", 0.0, 0.0).args[0]
    expected = nodes.depth.to_images.surface_normals(nodes.host.geometry.to_metric_depth(shifted))
    changed = (shifted["normal"] != given).any(dim=-1) & surface
    assert changed.float().mean() > 0.9 * surface.float().mean()
    torch.testing.assert_close(shifted["normal"][changed], expected[changed])
    mask = torch.zeros(1, HEIGHT, WIDTH)
    mask[..., WIDTH // 2 :] = 1
    other = scaled | {"normal": -scaled["normal"]}
    blended = nodes.SpatialFusionBlendDepth.execute(geometry, other, mask, False).args[0]["normal"]
    taken = torch.where(mask.bool().unsqueeze(-1), -given, given)
    assert (blended == taken).all(dim=-1)[surface].float().mean() > 0.95
    loose = nodes.SpatialFusionLoosenDepth.execute(geometry, 0.5).args[0]
    untouched = (loose["depth"] == geometry["depth"]) & surface
    assert 0.3 < untouched.float().mean() < surface.float().mean()
    assert (loose["normal"] == given).all(dim=-1)[untouched].float().mean() > 0.95
    plain = scene()
    assert "normal" not in nodes.SpatialFusionLoosenDepth.execute(plain, 0.5).args[0]
    assert "normal" not in nodes.SpatialFusionBlendDepth.execute(plain, plain, mask, False).args[0]
    assert "normal" not in adjust(plain, 2.0, 0.0, 0.0, "region", 0.0, 0.0).args[0]

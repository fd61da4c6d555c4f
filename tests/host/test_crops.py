"""Depth Adapter Apply before nodes that cut: refused where the part of the image is not known, right where it is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.host.mini_graphs import CONDITIONING, LATENT, NEGATIVE, VAE, add_sampler, apply_graph, digest, node
from tests.host.server import ComfyServer, Graph, PromptError

WHOLE = {"crop_x": 0.0, "crop_y": 0.0, "crop_width": 1.0, "crop_height": 1.0}
QUARTER = {"crop_x": 0.5, "crop_y": 0.0, "crop_width": 0.5, "crop_height": 0.5}


def cropped_latent(**crop: float) -> Graph:
    """The upper right quarter of a latent of 64 x 64 cells: the host's node counts 8 pixels a cell."""
    graph = add_sampler(apply_graph(**crop), steps=1, latent_image=["cut", 0])
    graph["cut"] = node("LatentCrop", samples=LATENT, width=256, height=256, x=256, y=0)
    return graph


def tiles(tells: bool = False, **crop: float) -> Graph:
    graph = apply_graph(**crop)
    graph["negative"] = add_sampler(apply_graph())["negative"]
    graph["image"] = node("EmptyImage", width=64, height=64, batch_size=1, color=0x204060)
    inputs: dict[str, Any] = {"model": ["apply", 0], "image": ["image", 0], "vae": VAE, "tells": tells}
    graph["upscaler"] = node("ProbeTileSampler", positive=CONDITIONING, negative=NEGATIVE, **inputs)
    return graph | {"digest": digest(["upscaler", 0])}


def cropped_photo(crop_before_measuring: bool) -> Graph:
    """A photo's geometry, and the latent of the photo's middle; or both of the middle."""
    cut = ["cut", 0] if crop_before_measuring else ["photo", 0]
    graph = add_sampler(apply_graph(geometry=["measured", 0]), steps=1, latent_image=["encoded", 0])
    graph["photo"] = node("EmptyImage", width=64, height=64, batch_size=1, color=0x808080)
    graph["cut"] = node("ImageCrop", image=["photo", 0], width=32, height=32, x=16, y=16)
    graph["encoded"] = node("VAEEncode", pixels=["cut", 0], vae=VAE)
    options = {"near_m": 1.0, "far_m": 9.0, "encoding": "disparity", "invert": False, "fov_y_deg": 50.0}
    graph["measured"] = node("SpatialFusionImageToDepth", image=cut, **options)
    return graph


REFUSED = {
    "a cropped latent": (
        cropped_latent(),
        "sampler",
        "the latent comes from LatentCrop, but the depth is",
    ),
    "tiles": (tiles(), "upscaler", "ProbeTileSampler makes its latents of an image, and does not tell which part"),
    "a cropped photo": (
        cropped_photo(False),
        "sampler",
        "the latent comes from ImageCrop, but the depth is",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_part_that_nobody_tells_is_refused(server: ComfyServer, case: str) -> None:
    graph, node_id, message = REFUSED[case]
    with pytest.raises(PromptError, match=message) as caught:
        server.run(graph)
    assert (caught.value.kind, caught.value.node_id) == ("execution", node_id)
    assert "crop_x, crop_y, crop_width and crop_height (a width and height of 1 is the whole)" in caught.value.message


def test_a_part_that_is_told_is_drawn(server: ComfyServer) -> None:
    digests = {
        name: server.run(graph)[key]["digest"]
        for name, graph, key in (
            ("quarter", cropped_latent(**QUARTER), "sampler digest"),
            ("whole", cropped_latent(**WHOLE), "sampler digest"),
            ("tiles, whole", tiles(**WHOLE), "digest"),
            ("tiles, told", tiles(tells=True), "digest"),
        )
    }
    assert digests["quarter"] != digests["whole"]
    assert digests["tiles, told"] != digests["tiles, whole"]


def test_what_is_whole_is_drawn_as_before(server: ComfyServer) -> None:
    """A geometry that was measured from the crop fits it, and a whole latent is whole."""
    assert server.run(cropped_photo(True))["sampler digest"]["digest"]
    plain = add_sampler(apply_graph(), steps=2)
    told = add_sampler(apply_graph(**WHOLE), steps=2)
    assert server.run(plain)["sampler digest"] == server.run(told)["sampler digest"]

"""Depth Adapter Apply, SpatialFusion Sampler and Depth Guider in real servers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.host import mini_checkpoints
from tests.host.mini_graphs import APPLIED, CONDITIONING, LATENT, MODEL, NEGATIVE, add_sampler, apply_graph, node
from tests.host.server import ComfyServer, Graph

INJECTIONS = pytest.mark.parametrize("checkpoint", [mini_checkpoints.TOKEN, mini_checkpoints.LATENT])
# A measured depth that no model made.
ONCE = {"once": node("ProbeGeometry", kind="moge", width=64, height=64, batch=1)}
# Sums of float32 predictions in another order.
LINEAR_TOLERANCE = 1e-5


def latent_digest(server: ComfyServer, graph: Graph) -> str:
    return server.run(graph)["sampler digest"]["digest"][0]


def without_pack(**options: Any) -> Graph:
    """The graph that a user would have without the pack: stock text encoder and KSampler."""
    graph = add_sampler(apply_graph(), model=MODEL, depth_guidance=None, **options)
    graph["positive"] = node("CLIPTextEncode", clip=["base", 1], text=graph["predict"]["inputs"]["prompt"])
    graph["sampler"]["inputs"]["positive"] = ["positive", 0]
    for name in ("loader", "predict", "preview", "apply"):
        del graph[name]
    return graph


def add_distance(graph: Graph, first: str, second: str) -> None:
    graph["distance"] = node("ProbeDistance", a=[first, 0], b=[second, 0])


def relative_distance(server: ComfyServer, graph: Graph) -> float:
    output = server.run(graph)["distance"]
    return output["distance"][0] / output["magnitude"][0]


@INJECTIONS
def test_strength_0_is_bit_identical_to_the_graph_without_the_pack(server: ComfyServer, checkpoint: str) -> None:
    expected = latent_digest(server, without_pack())
    graph = add_sampler(apply_graph(strength=0.0, checkpoint=checkpoint), depth_guidance=None)
    assert latent_digest(server, graph) == expected
    graph = add_sampler(apply_graph(checkpoint=checkpoint), depth_guidance=None)
    assert latent_digest(server, graph) != expected, "at strength 1 the adapter does something"
    # The MODEL that was cloned is still the plain one.
    assert latent_digest(server, without_pack(seed=8)) != expected
    assert latent_digest(server, without_pack()) == expected


@INJECTIONS
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cfg": 1.0},
        {"sampler_name": "dpmpp_2m", "scheduler": "sgm_uniform"},
        {"denoise": 0.5, "sampler_name": "euler_ancestral"},
        {"batch_size": 2, "width": 48, "height": 48},
    ],
)
def test_depth_guidance_1_is_bit_identical_to_ksampler(
    server: ComfyServer, checkpoint: str, options: dict[str, Any]
) -> None:
    graph = add_sampler(apply_graph(checkpoint=checkpoint), depth_guidance=1.0, **options)
    stock = add_sampler(apply_graph(checkpoint=checkpoint), depth_guidance=None, **options)
    assert latent_digest(server, graph) == latent_digest(server, stock)


def test_a_noise_mask_and_batch_indices_are_used_as_ksampler_does(server: ComfyServer) -> None:
    digests = []
    for depth_guidance in (1.0, None):
        graph = add_sampler(apply_graph(), depth_guidance=depth_guidance, batch_size=3, denoise=0.7)
        graph["picked"] = node("LatentFromBatch", samples=LATENT, batch_index=1, length=2)
        graph["mask"] = node("SolidMask", value=0.5, width=64, height=64)
        graph["masked"] = node("SetLatentNoiseMask", samples=["picked", 0], mask=["mask", 0])
        graph["sampler"]["inputs"]["latent_image"] = ["masked", 0]
        digests.append(latent_digest(server, graph))
    assert digests[0] == digests[1]


@INJECTIONS
def test_guidance_is_the_stated_formula(server: ComfyServer, checkpoint: str) -> None:
    """After one Euler step to sigma 0 the latent is the guided prediction itself, so predictions can be combined."""
    cfg, depth_guidance = 3.0, 2.0
    one = {"steps": 1, "cfg": 1.0, "depth_guidance": 1.0}
    graph = apply_graph(checkpoint=checkpoint)
    add_sampler(graph, model=MODEL, name="v00", **one, positive=NEGATIVE)
    add_sampler(graph, name="v0D", **one, positive=NEGATIVE)
    add_sampler(graph, name="vcD", **one, positive=CONDITIONING)
    add_sampler(graph, name="sampler", steps=1, cfg=cfg, depth_guidance=depth_guidance)
    weights = {"weight_a": 1 - depth_guidance, "weight_b": depth_guidance - cfg, "weight_c": cfg}
    graph["expected"] = node("ProbeCombine", a=["v00", 0], b=["v0D", 0], c=["vcD", 0], **weights)
    add_distance(graph, "sampler", "expected")
    assert relative_distance(server, graph) < LINEAR_TOLERANCE
    graph["sampler"]["inputs"]["depth_guidance"] = cfg  # the two-pass shortcut
    graph["expected"]["inputs"] |= {"weight_a": 1 - cfg, "weight_b": 0.0}
    assert relative_distance(server, graph) < LINEAR_TOLERANCE
    graph["sampler"]["inputs"] |= {"cfg": 0.0, "depth_guidance": depth_guidance}  # the other one
    graph["expected"]["inputs"] |= {"weight_a": 1 - depth_guidance, "weight_b": depth_guidance, "weight_c": 0.0}
    assert relative_distance(server, graph) < LINEAR_TOLERANCE


def test_what_other_nodes_do_to_the_guided_prediction_is_done_to_both_parts(server: ComfyServer) -> None:
    """A post-CFG function that halves gives half of the whole formula, also where a pass could have been saved."""
    one = {"steps": 1, "cfg": 1.0, "depth_guidance": 1.0}
    graph = apply_graph(checkpoint=mini_checkpoints.TOKEN)
    graph["halved"] = node("ProbeHalveGuided", model=APPLIED)
    add_sampler(graph, model=MODEL, name="v00", **one, positive=NEGATIVE)
    add_sampler(graph, name="v0D", **one, positive=NEGATIVE)
    add_sampler(graph, name="vcD", **one, positive=CONDITIONING)
    add_distance(graph, "sampler", "expected")
    for cfg, depth_guidance in ((3.0, 2.0), (3.0, 3.0), (0.0, 2.0)):
        add_sampler(graph, model=["halved", 0], name="sampler", steps=1, cfg=cfg, depth_guidance=depth_guidance)
        weights = {"weight_a": 1 - depth_guidance, "weight_b": depth_guidance - cfg, "weight_c": cfg}
        halves = {name: weight / 2 for name, weight in weights.items()}
        graph["expected"] = node("ProbeCombine", a=["v00", 0], b=["v0D", 0], c=["vcD", 0], **halves)
        assert relative_distance(server, graph) < LINEAR_TOLERANCE, (cfg, depth_guidance)


def add_custom_sampler(graph: Graph, guider: dict[str, Any]) -> Graph:
    """SamplerCustomAdvanced with this node as its guider, set as `add_sampler` sets the others."""
    inputs = graph["sampler"]["inputs"]
    graph["noise"] = node("RandomNoise", noise_seed=inputs["seed"])
    graph["algorithm"] = node("KSamplerSelect", sampler_name=inputs["sampler_name"])
    schedule = {name: inputs[name] for name in ("model", "scheduler", "steps", "denoise")}
    graph["sigmas"] = node("BasicScheduler", **schedule)
    graph["guider"] = guider
    links = {"noise": ["noise", 0], "sampler": ["algorithm", 0], "sigmas": ["sigmas", 0], "guider": ["guider", 0]}
    graph["custom"] = node("SamplerCustomAdvanced", **links, latent_image=LATENT)
    graph["custom digest"] = node("ProbeDigest", value=["custom", 0])
    return graph


@pytest.mark.parametrize("depth_guidance", [1.0, 2.0])
def test_depth_guider_is_the_sampler_s_guidance(server: ComfyServer, depth_guidance: float) -> None:
    """Twice: the host keeps the guider, and runs it again with other noise."""
    graph = add_sampler(apply_graph(checkpoint=mini_checkpoints.TOKEN), depth_guidance=depth_guidance)
    scales = {"model": APPLIED, "positive": CONDITIONING, "negative": NEGATIVE, "cfg": 4.0}
    for seed in (7, 8):
        graph["sampler"]["inputs"]["seed"] = seed
        add_custom_sampler(graph, node("SpatialFusionGuider", **scales, depth_guidance=depth_guidance))
        outputs = server.run(graph)
        assert outputs["custom digest"]["digest"] == outputs["sampler digest"]["digest"]
    stock = node("CFGGuider", **scales)
    outputs = server.run(add_custom_sampler(graph, stock))
    same = outputs["custom digest"]["digest"] == outputs["sampler digest"]["digest"]
    assert same == (depth_guidance == 1.0)


@pytest.mark.parametrize(
    "model, cfg, depth_guidance, passes",
    [
        (APPLIED, 4.0, 1.0, 2),
        (APPLIED, 1.0, 1.0, 1),
        (APPLIED, 4.0, 4.0, 2),
        (APPLIED, 4.0, 2.0, 3),
        (APPLIED, 1.0, 2.0, 3),
        (APPLIED, 0.0, 2.0, 2),
        (APPLIED, 0.0, 0.5, 2),
        (MODEL, 4.0, 2.0, 2),
        (MODEL, 1.0, 2.0, 1),
        (APPLIED, 4.0, None, 2),
    ],
)
def test_only_the_passes_that_are_needed_run_and_f_is_computed_once(
    server: ComfyServer, model: list[Any], cfg: float, depth_guidance: float | None, passes: int
) -> None:
    steps = 3
    graph = apply_graph(checkpoint=mini_checkpoints.TOKEN)
    graph["count"] = node("ProbeCount", model=model)
    add_sampler(graph, model=["count", 0], steps=steps, cfg=cfg, depth_guidance=depth_guidance)
    graph["counts"] = node("ProbeCounts", after=["sampler", 0])
    counts = server.run(graph)["counts"]
    assert counts["conditions"] == [steps * passes]
    assert counts["adapter_calls"] == [0 if model == MODEL else 1]


def test_passes_without_depth_are_not_run_where_the_depth_is_switched_off(server: ComfyServer) -> None:
    steps = 4
    graph = apply_graph(checkpoint=mini_checkpoints.TOKEN, end_percent=0.4)
    graph["count"] = node("ProbeCount", model=APPLIED)
    add_sampler(graph, model=["count", 0], steps=steps, cfg=4.0, depth_guidance=2.0)
    graph["counts"] = node("ProbeCounts", after=["sampler", 0])
    conditions = server.run(graph)["counts"]["conditions"][0]
    assert 2 * steps < conditions < 3 * steps


@pytest.mark.parametrize("shift", [0.5, 12.0])
def test_percents_hold_for_the_schedule_that_a_later_node_sets(server: ComfyServer, shift: float) -> None:
    """Of 4 steps the first 2 begin before 40% of sampling, whatever the shift; each costs a third pass."""
    graph = apply_graph(checkpoint=mini_checkpoints.TOKEN, end_percent=0.4)
    graph["shifted"] = node("ModelSamplingAuraFlow", model=APPLIED, shift=shift)
    graph["count"] = node("ProbeCount", model=["shifted", 0])
    add_sampler(graph, model=["count", 0], steps=4, cfg=4.0, depth_guidance=2.0)
    graph["counts"] = node("ProbeCounts", after=["sampler", 0])
    assert server.run(graph)["counts"]["conditions"] == [2 * 3 + 2 * 2]


@INJECTIONS
def test_mask_and_percents_limit_the_depth(server: ComfyServer, checkpoint: str) -> None:
    plain = latent_digest(server, without_pack())
    graph = add_sampler(apply_graph(checkpoint=checkpoint, mask=["mask", 0]), depth_guidance=None)
    graph["mask"] = node("SolidMask", value=0.0, width=32, height=32)
    assert latent_digest(server, graph) == plain, "an empty mask uses no depth"
    full = latent_digest(server, add_sampler(apply_graph(checkpoint=checkpoint)))
    graph["mask"]["inputs"]["value"] = 1.0
    assert latent_digest(server, graph) == full
    for percents, expected in (((0.0, 1.0), full), ((1.0, 1.0), plain)):
        limited = apply_graph(checkpoint=checkpoint, start_percent=percents[0], end_percent=percents[1])
        assert latent_digest(server, add_sampler(limited)) == expected
    early = latent_digest(server, add_sampler(apply_graph(checkpoint=checkpoint, end_percent=0.5)))
    assert early not in (plain, full)


@INJECTIONS
def test_several_on_one_model_add_up(server: ComfyServer, checkpoint: str) -> None:
    graph = apply_graph(checkpoint=checkpoint, strength=1.0)
    for name, model in (("half", MODEL), ("both", ["half", 0])):
        graph[name] = node("SpatialFusionApplyDepth", **(graph["apply"]["inputs"] | {"strength": 0.5, "model": model}))
    add_sampler(graph, name="sampler")
    add_sampler(graph, name="halves", model=["both", 0])
    add_distance(graph, "sampler", "halves")
    assert relative_distance(server, graph) < LINEAR_TOLERANCE
    graph["halves"]["inputs"]["model"] = ["half", 0]
    assert relative_distance(server, graph) > 100 * LINEAR_TOLERANCE


@INJECTIONS
@pytest.mark.parametrize("kind, output", [("moge", 0), ("da3", 1)])
def test_measured_geometry_replaces_predicted(server: ComfyServer, checkpoint: str, kind: str, output: int) -> None:
    graph = add_sampler(apply_graph(geometry=["measured", output], checkpoint=checkpoint))
    graph["measured"] = node("ProbeGeometry", kind=kind, width=128, height=128, batch=1)
    assert latent_digest(server, graph) != latent_digest(server, without_pack())


@INJECTIONS
def test_a_batch_of_geometries_goes_one_to_one_with_the_latents(server: ComfyServer, checkpoint: str) -> None:
    """One geometry for a batch of two and the same geometry twice give the same images."""
    graph = apply_graph(geometry=["once", 0], checkpoint=checkpoint)
    for batch, name in enumerate(("once", "twice"), start=1):
        graph[name] = node("ProbeGeometry", kind="moge", width=64, height=64, batch=batch)
    graph["apply twice"] = node("SpatialFusionApplyDepth", **(graph["apply"]["inputs"] | {"geometry": ["twice", 0]}))
    add_sampler(graph, batch_size=2)
    add_sampler(graph, batch_size=2, name="other", model=["apply twice", 0])
    add_distance(graph, "sampler", "other")
    assert relative_distance(server, graph) < LINEAR_TOLERANCE


def test_a_loose_depth_ends_when_it_says(server: ComfyServer) -> None:
    """Loosen Metric Depth with both outputs on Depth Adapter Apply: at 0 nothing changes, at 1 both outputs count."""
    tight = latent_digest(server, add_sampler(apply_graph(geometry=["once", 0]) | ONCE))
    digests = {}
    for looseness, linked in ((0.0, True), (1.0, True), (1.0, False)):
        graph = apply_graph(geometry=["loosen", 0]) | ONCE
        graph["loosen"] = node("SpatialFusionLoosenDepth", geometry=["once", 0], looseness=looseness)
        if linked:
            graph["apply"]["inputs"]["end_percent"] = ["loosen", 1]
        digests[looseness, linked] = latent_digest(server, add_sampler(graph))
    assert digests[0.0, True] == tight
    assert len(set(digests.values())) == 3
    graph["apply"]["inputs"]["end_percent"] = 0.4
    assert latent_digest(server, graph) == digests[1.0, True]


@INJECTIONS
@pytest.mark.parametrize("size", [(76, 60), (16, 64), (128, 96)])
def test_latents_of_any_size(server: ComfyServer, checkpoint: str, size: tuple[int, int]) -> None:
    width, height = size
    graph = add_sampler(apply_graph(checkpoint=checkpoint), width=width, height=height, depth_guidance=2.0, steps=2)
    graph["predict"]["inputs"] |= {"width": width, "height": height}
    graph["decode"] = node("VAEDecode", samples=["sampler", 0], vae=["base", 2])
    graph["size"] = node("GetImageSize", image=["decode", 0])
    graph["picture"] = node("PreviewImage", images=["decode", 0])
    assert server.run(graph)["picture"]["images"]

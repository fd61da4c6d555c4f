"""OmniGen2, Qwen-Image and Z-Image in the host, with tiny random weights of the real architectures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from sf_model.backbones import get_backbone
from sf_model.backbones.revision import fingerprint
from tests.host.mini_graphs import CONDITIONING, digest, node
from tests.host.server import ComfyServer, Graph, PromptError
from tests.host.tiny_checkpoints import ARCHITECTURES, DINOV2_WIDTH, tiny_config, write_tiny_checkpoint
from tests.host.tiny_graphs import CLIP, MODEL, PROMPT, add_sampler, relative_distance, tiny_graph, value


def checkpoints(server: ComfyServer) -> Path:
    return server.base / "models" / "spatialfusion"


def checkpoint(server: ComfyServer, architecture: str, injection: str = "latent", **options: Any) -> str:
    config = tiny_config(architecture, injection, **options)  # type: ignore[arg-type]
    name = f"{config.name}{'_source' if options.get('source') else ''}_{architecture}.safetensors"
    if not (checkpoints(server) / name).exists():
        write_tiny_checkpoint(checkpoints(server), name, config)
    return name


@pytest.mark.parametrize("injection", ["latent", "token"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_text_to_image(server: ComfyServer, architecture: str, injection: str) -> None:
    """The conditioning is CLIP Text Encode's, the depth changes the image, and at strength 0 it changes nothing."""
    graph = tiny_graph(architecture, checkpoint(server, architecture, injection))
    graph["stock"] = node("CLIPTextEncode", clip=CLIP, text=PROMPT)
    graph["stock digest"] = digest(["stock", 0])
    add_sampler(graph, "plain", model=MODEL, positive=["stock", 0])
    graph["off"] = node("SpatialFusionApplyDepth", **graph["apply"]["inputs"] | {"strength": 0.0})
    add_sampler(graph, "without", model=["off", 0])
    outputs = server.run(graph)
    assert value(outputs, "conditioning digest") == value(outputs, "stock digest")
    assert value(outputs, "plain digest") == value(outputs, "without digest")
    assert relative_distance(outputs, "plain distance") > 1e-3
    assert "text" not in outputs.get("loader", {})  # no fingerprint, nothing to warn of


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_prompt_makes_the_depth(server: ComfyServer, architecture: str) -> None:
    graph = tiny_graph(architecture, checkpoint(server, architecture))
    graph["other"] = node("SpatialFusionPredictDepth", **graph["predict"]["inputs"] | {"prompt": "a blue bus"})
    graph["other digest"] = digest(["other", 0])
    outputs = server.run(graph)
    assert value(outputs, "geometry digest") != value(outputs, "other digest")


@pytest.mark.parametrize("backbone", ["qwen_image", "qwen_image_edit"])
@pytest.mark.parametrize("with_vae", [False, True], ids=["text", "reference latent"])
def test_qwen_image_edit_sees_the_source(server: ComfyServer, backbone: str, with_vae: bool) -> None:
    """The conditioning is that of the base's own edit node, reference latents included; the depth knows the source."""
    stock, image_input = {
        "qwen_image": ("TextEncodeQwenImageEditPlus", "image1"),
        "qwen_image_edit": ("TextEncodeQwenImageEdit", "image"),
    }[backbone]
    graph = tiny_graph("qwen_image", checkpoint(server, "qwen_image", backbone=backbone))
    graph["picture"] = node("EmptyImage", width=96, height=64, batch_size=1, color=0x3070C0)
    graph["mini"] = node("SpatialFusionMiniLoader")
    vae = {"vae": ["mini", 2]} if with_vae else {}
    graph["predict"]["inputs"] |= {"source": ["picture", 0], **vae}
    graph["stock"] = node(stock, clip=CLIP, prompt=PROMPT, **{image_input: ["picture", 0]}, **vae)
    graph["stock digest"] = digest(["stock", 0])
    for name in ("apply", "sampler", "image digest"):
        del graph[name]  # the Mini's pixels are no latents of this base
    graph["other picture"] = node("EmptyImage", width=96, height=64, batch_size=1, color=0xC0E010)
    graph["other"] = node("SpatialFusionPredictDepth", **graph["predict"]["inputs"] | {"source": ["other picture", 0]})
    graph["other digest"] = digest(["other", 0])
    outputs = server.run(graph, timeout_s=300)
    assert value(outputs, "conditioning digest") == value(outputs, "stock digest")
    assert value(outputs, "geometry digest") != value(outputs, "other digest")


def with_reference(architecture: str, checkpoint: str) -> Graph:
    """A graph whose positive has a reference latent of 64x64 pixels."""
    graph = tiny_graph(architecture, checkpoint)
    graph["picture latent"] = node("EmptySD3LatentImage", width=64, height=64, batch_size=1)
    if architecture == "qwen_image":  # whose latents are videos of one frame, as its VAE makes them
        graph["vae"] = node("ProbeTinyVae")
        graph["picture"] = node("EmptyImage", width=64, height=64, batch_size=1, color=0x3070C0)
        graph["picture latent"] = node("VAEEncode", pixels=["picture", 0], vae=["vae", 0])
    graph["reference"] = node("ReferenceLatent", conditioning=CONDITIONING, latent=["picture latent", 0])
    graph["sampler"]["inputs"]["positive"] = ["reference", 0]
    return graph


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("injection", ["latent", "token"])
def test_depth_and_a_reference_latent_both_act(server: ComfyServer, architecture: str, injection: str) -> None:
    graph = with_reference(architecture, checkpoint(server, architecture, injection))
    add_sampler(graph, "plain", model=MODEL)
    add_sampler(graph, "no reference", positive=CONDITIONING)
    outputs = server.run(graph)
    assert relative_distance(outputs, "plain distance") > 1e-3
    assert relative_distance(outputs, "no reference distance") > 1e-3


@pytest.mark.parametrize(
    ("architecture", "calls"),
    [
        # [depth was added, to how many tokens]: 24 are the image's, 16 the reference's
        ("omnigen2", [[[True, 24]]]),
        ("qwen_image", [[[True, 24], [False, 16]]]),
        ("z_image", [[[False, 16]], [[True, 24]]]),
    ],
)
def test_depth_is_added_to_the_image_and_not_to_its_reference(
    server: ComfyServer, architecture: str, calls: list[list[list[object]]]
) -> None:
    graph = with_reference(architecture, checkpoint(server, architecture, "token"))
    graph["tokens"] = node("ProbeTokens", model=["apply", 0], embedder=get_backbone(architecture).patch_embedder)
    graph["sampler"]["inputs"] |= {"model": ["tokens", 0], "cfg": 1.0, "steps": 1}
    graph["changed"] = node("ProbeChangedTokens", after=["sampler", 0])
    assert server.run(graph)["changed"]["calls"] == calls


def test_omnigen2_edits_from_dinov2_features_and_a_reference_latent(server: ComfyServer) -> None:
    graph = tiny_graph("omnigen2", checkpoint(server, "omnigen2", source=True))
    graph["vision"] = node("ProbeClipVision", hidden_size=DINOV2_WIDTH, kind="dinov2")
    graph["loader"]["inputs"]["clip_vision"] = ["vision", 0]
    graph["picture"] = node("EmptyImage", width=96, height=64, batch_size=1, color=0x3070C0)
    graph["mini"] = node("SpatialFusionMiniLoader")
    graph["text"] = node("CLIPTextEncode", clip=CLIP, text=PROMPT)
    graph["latent of picture"] = node("VAEEncode", pixels=["picture", 0], vae=["mini", 2])
    graph["stock"] = node("ReferenceLatent", conditioning=["text", 0], latent=["latent of picture", 0])
    graph["stock digest"] = digest(["stock", 0])
    graph["edit"] = node(
        "SpatialFusionPredictDepth", **graph["predict"]["inputs"] | {"source": ["picture", 0], "vae": ["mini", 2]}
    )
    graph["edit digest"], graph["edit geometry digest"] = digest(["edit", 1]), digest(["edit", 0])
    graph["apply"]["inputs"]["geometry"] = ["edit", 0]
    outputs = server.run(graph)
    assert value(outputs, "edit digest") == value(outputs, "stock digest")
    assert value(outputs, "edit geometry digest") != value(outputs, "geometry digest")


@pytest.mark.parametrize(
    ("architecture", "backbone", "clip_type", "message"),
    [
        ("qwen_image", "qwen_image", "HUNYUAN_IMAGE", "type qwen_image.*language model of Qwen-Image.*another base"),
        ("qwen_image", "qwen_image", "LONGCAT_IMAGE", "type qwen_image.*LongCatImageTEModel"),
        ("z_image", "z_image", "FLUX2", "type lumina2.*language model of Z-Image.*<think>"),
    ],
)
def test_a_clip_of_the_wrong_type_is_refused_by_name(
    server: ComfyServer, architecture: str, backbone: str, clip_type: str, message: str
) -> None:
    graph = tiny_graph(architecture, checkpoint(server, architecture), clip={"type": clip_type})
    for name in ("negative", "sampler", "image digest"):
        del graph[name]  # other bases read layers that the tiny encoder has not
    with pytest.raises(PromptError) as caught:
        server.run(graph)
    assert caught.value.node_id == "loader"
    assert re.search(message, caught.value.message, re.DOTALL), caught.value.message


def test_a_checkpoint_of_another_base_is_refused_by_name(server: ComfyServer) -> None:
    graph = tiny_graph("qwen_image", checkpoint(server, "omnigen2"))
    with pytest.raises(PromptError, match="type omnigen2.*is for OmniGen2") as caught:
        server.run(graph)
    assert caught.value.node_id == "loader"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_diffusion_model_of_another_base_is_refused_by_name(server: ComfyServer, architecture: str) -> None:
    other = {"omnigen2": "qwen_image", "qwen_image": "z_image", "z_image": "omnigen2"}[architecture]
    titles = {"omnigen2": "OmniGen2", "qwen_image": "Qwen-Image", "z_image": "Z-Image"}
    graph = tiny_graph(architecture, checkpoint(server, architecture), model={"architecture": other})
    with pytest.raises(PromptError, match=f"for {titles[architecture]}, but this MODEL.*{titles[other]}") as caught:
        server.run(graph)
    assert caught.value.node_id == "apply"


def test_another_release_of_the_base_is_warned_of_by_name(server: ComfyServer) -> None:
    """The same sizes with other weights: the run goes on, the node and the log name both."""
    server.run(tiny_graph("qwen_image", checkpoint(server, "qwen_image")))  # writes the tiny files
    tiny = server.base / "models" / "tiny"
    mllm = safetensors.torch.load_file(tiny / "qwen_image_mllm_float32_0.safetensors")
    transformer = safetensors.torch.load_file(tiny / "qwen_image_float32_0.safetensors")
    fingerprints = {
        "mllm": fingerprint(mllm["model.layers.0.self_attn.q_proj.weight"]),
        "transformer": fingerprint(transformer["img_in.weight"]),
    }
    config = tiny_config("qwen_image", "latent")
    name = write_tiny_checkpoint(checkpoints(server), "with_fingerprint.safetensors", config, "Tiny-1.0", fingerprints)
    for stored, weight_dtype in (("float32", "fp8_e4m3fn"), ("bfloat16", "default"), ("scaled_fp8", "default")):
        same = server.run(
            tiny_graph(
                "qwen_image", name, model={"stored": stored, "weight_dtype": weight_dtype}, clip={"stored": stored}
            )
        )
        assert "text" not in same.get("loader", {})
        assert "text" not in same.get("apply", {})
    outputs = server.run(tiny_graph("qwen_image", name, model={"seed": 1}, clip={"seed": 1}))
    assert re.search(
        r"this CLIP is qwen_image_mllm_float32_1.safetensors \[\w+\].*Tiny-1.0", outputs["loader"]["text"][0]
    )
    assert re.search(r"this MODEL is qwen_image_float32_1.safetensors \[\w+\].*Tiny-1.0", outputs["apply"]["text"][0])
    assert "Depth Adapter Apply: this MODEL is qwen_image_float32_1.safetensors" in server.log_text()

"""A graph of stock nodes in a real server, and sf_model's own pipeline in this process, over the same files.

The files are tiny random weights of OmniGen2's and Qwen-Image's architectures, which the stock loaders load. sf_model
has transformers' decoders, diffusers' transformer and autoencoders, and its twin of OmniGen2's transformer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from PIL import Image

from sf_model.checkpoint import load_checkpoint
from sf_model.models.depth_flow import DepthSampling, draw_noise
from sf_model.training.bases.base import Base
from sf_model.training.bases.omnigen2 import OmniGen2Base
from sf_model.training.bases.qwen_image import QwenImageBase
from sf_model.training.bases.released import BaseFiles
from sf_model.training.system import ImageSampling, System
from tests.host.mini_graphs import node, sampler_inputs
from tests.host.server import ComfyServer, Graph
from tests.host.tiny_checkpoints import tiny_config, write_tiny_checkpoint
from tools import hosts
from tools.preparation_cost import flux_autoencoder

PROMPT = "a red chair 2 m away, to the left of a house"
WIDTH, HEIGHT = 64, 96
SOURCE_WIDTH, SOURCE_HEIGHT = 96, 64
SEED, STEPS, CFG = 11, 4, 3.0
DEPTH_SEED, DEPTH_STEPS, DEPTH_GUIDANCE = 5, 3, 2.0
TOLERANCE = 1e-3
SOURCE_FILE = "source of the same image.png"


@dataclass(frozen=True)
class Case:
    """A base with or without a source image to edit."""

    architecture: str
    is_edit: bool

    def file(self, directory: str) -> str:
        """The name of its file in this folder of models/."""
        return f"same_image_{directory}_{self.architecture}.safetensors"


def write_autoencoder(path: Path) -> None:
    """Flux's, which OmniGen2 uses: the host knows it at its real size alone. Random weights."""
    torch.manual_seed(0)
    vae = flux_autoencoder()
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file({name: value.half() for name, value in vae.state_dict().items()}, path)


def write_files(server: ComfyServer, case: Case) -> None:
    """Everything that the graph loads, an untrained checkpoint among it."""
    models = server.base / "models"
    wanted = ["diffusion_models", "text_encoders", "clip_vision"]
    if case.architecture == "qwen_image":
        wanted.append("vae")
    elif not (models / "vae" / case.file("vae")).exists():
        write_autoencoder(models / "vae" / case.file("vae"))
    files = [{"name": case.file(name), "directory": name, "base": case.architecture} for name in wanted]
    server.run({"files": node("ProbeTinyFiles", files=json.dumps(files))})
    config = tiny_config(case.architecture, "latent", source=case.is_edit)
    write_tiny_checkpoint(models / "spatialfusion", checkpoint_name(case), config)
    rows, columns = np.mgrid[0 : 3 : SOURCE_HEIGHT * 1j, 0 : 4 : SOURCE_WIDTH * 1j]
    smooth = np.stack([np.sin(rows) ** 2, np.cos(columns) ** 2, np.sin(rows * columns) ** 2], axis=-1)
    Image.fromarray((smooth * 255).round().astype(np.uint8)).save(server.base / "input" / SOURCE_FILE)


def checkpoint_name(case: Case) -> str:
    return f"same_image_{case.architecture}_{case.is_edit}.safetensors"


def graph_of(case: Case, prefix: str) -> Graph:
    """Prompt, depth and image, saved in full precision."""
    graph = {
        "model": node("UNETLoader", unet_name=case.file("diffusion_models"), weight_dtype="default"),
        "clip": node("CLIPLoader", clip_name=case.file("text_encoders"), type=case.architecture, device="default"),
        "vae": node("VAELoader", vae_name=case.file("vae")),
        "loader": node("SpatialFusionLoader", clip=["clip", 0], checkpoint=checkpoint_name(case)),
        "predict": node(
            "SpatialFusionPredictDepth",
            spatialfusion=["loader", 0],
            prompt=PROMPT,
            width=WIDTH,
            height=HEIGHT,
            mode="sampled",
            seed=DEPTH_SEED,
            steps=DEPTH_STEPS,
            guidance=DEPTH_GUIDANCE,
        ),
        "apply": node(
            "SpatialFusionApplyDepth",
            model=["model", 0],
            spatialfusion=["loader", 0],
            geometry=["predict", 0],
            strength=1.0,
            start_percent=0.0,
            end_percent=1.0,
        ),
        "negative": node("CLIPTextEncode", clip=["clip", 0], text=""),
        "latent": node("EmptySD3LatentImage", width=WIDTH, height=HEIGHT, batch_size=1),
        "sampler": node("KSampler", **sampler_inputs(model=["apply", 0], seed=SEED, steps=STEPS, cfg=CFG)),
        "image": node("VAEDecode", samples=["sampler", 0], vae=["vae", 0]),
        "save": node("ProbeSave", value=["image", 0], file=f"{prefix}_image.safetensors"),
    }
    if case.is_edit:
        graph["vision"] = node("CLIPVisionLoader", clip_name=case.file("clip_vision"))
        graph["source"] = node("LoadImage", image=SOURCE_FILE)
        graph["loader"]["inputs"]["clip_vision"] = ["vision", 0]
        graph["predict"]["inputs"]["source"] = ["source", 0]
        graph["source latent"] = node("VAEEncode", pixels=["source", 0], vae=["vae", 0])
        graph["reference"] = node("ReferenceLatent", conditioning=["predict", 1], latent=["source latent", 0])
        graph["sampler"]["inputs"]["positive"] = ["reference", 0]
    return graph


def load_base(server: ComfyServer, case: Case, repository: Path) -> Base:
    return base_of(case, base_files(server, case, repository))


def base_files(server: ComfyServer, case: Case, repository: Path) -> BaseFiles:
    models = server.base / "models"
    tokenizer = hosts.host_folder(repository, server.version) / "comfy" / "text_encoders" / "qwen25_tokenizer"
    return BaseFiles(
        text_encoder=models / "text_encoders" / case.file("text_encoders"),
        diffusion_model=models / "diffusion_models" / case.file("diffusion_models"),
        vae=models / "vae" / case.file("vae"),
        tokenizer=tokenizer,
        vision=models / "clip_vision" / case.file("clip_vision") if case.is_edit else None,
        dtype=torch.float32,
    )


def base_of(case: Case, files: BaseFiles) -> Base:
    return OmniGen2Base(files) if case.architecture == "omnigen2" else QwenImageBase(files)


@torch.no_grad()
def sf_model_image(server: ComfyServer, base: Base, case: Case, checkpoint: str, strength: float = 1.0) -> torch.Tensor:
    """(1, 3, H, W) in [0, 1], as the graph draws it, by sf_model alone."""
    contents = load_checkpoint(server.base / "models" / "spatialfusion" / checkpoint)
    system = System(base, contents.config, seed=0).eval()
    system.predictor.load_state_dict(contents.predictor_state())
    system.adapter.load_state_dict(contents.adapter_state())

    source, seen, reference = None, None, None
    if case.is_edit:
        picture = np.asarray(Image.open(server.base / "input" / SOURCE_FILE), dtype=np.float32) / 255
        source = torch.from_numpy(picture).movedim(-1, 0)[None]
        reference = base.encode_image(source)
        seen = source if base.mllm_sees_source else None
    prompt = base.encode(*base.tokens.batch([PROMPT], case.is_edit and base.mllm_sees_source), seen)
    negative = base.encode(*base.tokens.batch([""], False), None)

    noise = draw_noise(system.predictor.noise_shape(1, HEIGHT, WIDTH), DEPTH_SEED)
    inputs = system.inputs(prompt, HEIGHT, WIDTH, source)
    prediction = system.predictor.sample(inputs, DepthSampling(noise, DEPTH_STEPS, DEPTH_GUIDANCE))
    noise = torch.randn(1, 16, HEIGHT // 8, WIDTH // 8, generator=torch.Generator().manual_seed(SEED))
    features = system.features(prediction.to_metric_depth(), noise)
    features = replace(features, values=strength * features.values)
    latent = system.draw(prompt, negative, features, noise, ImageSampling(STEPS, CFG), reference)
    return base.decode_latent(latent)


def drawn_by_host(server: ComfyServer, graph: Graph, prefix: str) -> torch.Tensor:
    """(1, 3, H, W) in [0, 1]."""
    server.run(graph)
    return safetensors.torch.load_file(server.base / "output" / f"{prefix}_image.safetensors")["value"].movedim(-1, 1)


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative to how far the expected image is from a plain one."""
    return ((found - expected).norm() / (expected - expected.mean()).norm()).item()

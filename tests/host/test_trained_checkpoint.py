"""From a training to an image in ComfyUI: what the training commands export is loaded by a real server, without a
warning, and draws what sf_model draws with it. Beside released bases from a folder of images, by the stock nodes; the
Mini from nothing."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
import yaml

from sf_model.backbones.mini import MINI_DIR, TOKENIZER_DIR
from sf_model.models.depth_flow import DepthSampling, draw_noise
from sf_model.training.bases.base import Base
from sf_model.training.bases.lora import is_lora
from sf_model.training.controls import plain_settings
from sf_model.training.export import load_exported
from sf_model.training.run import build_stage, finished_state
from sf_model.training.run_state import load_average
from sf_model.training.settings import STAGE_NAMES, load_settings, smoke
from sf_model.training.system import ImageSampling
from tests.host.conftest import PROBE_NODES
from tests.host.mini_graphs import PROMPT, VAE, add_sampler, apply_graph, node
from tests.host.same_image import (
    TOLERANCE,
    Case,
    base_files,
    base_of,
    distance,
    drawn_by_host,
    graph_of,
    load_base,
    sf_model_image,
    write_files,
)
from tests.host.server import ComfyServer, Graph
from tests.host.tiny_checkpoints import tiny_config
from tests.training import tiny_data
from tests.training.run_command import run_command
from tools import hosts
from tools.host_process import PACK_FOLDER, link_folder

NAME = "trained"
# By which the probe nodes' files name their base (`probe_nodes/tiny_files.py`).
TINY_KEY = "spatialfusion tests"
# The diffusion model by a LoRA, and in full.
LORA_RANK = {"omnigen2": 4, "qwen_image": None}


def train(server: ComfyServer, case: Case, repository: Path, folder: Path) -> Path:
    """Depth, adapter and diffusion model for a few steps; the config's path."""
    tiny_data.write_images(folder)
    files = base_files(server, case, repository)
    spatial = folder / "tiny_spatial.json"
    spatial.write_text(json.dumps(dataclasses.asdict(tiny_config(case.architecture, "latent"))), encoding="utf-8")
    config = tiny_data.write_config(folder, case.architecture, {}, edits=False)
    values = yaml.safe_load(config.read_text(encoding="utf-8"))
    paths = {field.name: getattr(files, field.name) for field in dataclasses.fields(files)}
    values["weights"] = {
        name: str(path) if isinstance(path, Path) else path for name, path in paths.items() if name != "dtype"
    } | {"dtype": "float32"}
    values["spatial"]["config"] = str(spatial)
    for stage in ("stage1", "stage2"):
        values[stage]["loop"] |= {"learning_rate": 0.01, "sheet_every": 100}
    values["stage2"]["fusion"]["lora_rank"] = LORA_RANK[case.architecture]
    config.write_text(yaml.safe_dump(values), encoding="utf-8")
    for command in ("cache", "stage1", "stage2"):
        run_command(command, config)
    run_command("export", config, "--output", str(folder / "models"), "--name", NAME)
    return config


def install(file: Path, target: Path, architecture: str) -> None:
    """As a user copies it; a diffusion model is marked as tiny besides, or the host would expect its real size."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.parent.name != "diffusion_models":
        shutil.copy(file, target)
        return
    with safetensors.safe_open(file, "pt") as opened:
        metadata = opened.metadata() | {TINY_KEY: architecture}
    safetensors.torch.save_file(safetensors.torch.load_file(file), target, metadata)


def trained_base(server: ComfyServer, case: Case, repository: Path, config: Path, folder: Path) -> Base:
    """The base with what stage 2 made of it, rounded as in the files."""
    if LORA_RANK[case.architecture] is None:
        exported = folder / "models" / "diffusion_models" / f"{NAME}_diffusion_model.safetensors"
        return base_of(case, dataclasses.replace(base_files(server, case, repository), diffusion_model=exported))
    settings = load_settings(config)
    stage = build_stage(settings, "stage2")
    stage.start_from(load_average(finished_state(settings, "stage2")))
    base = stage.system.base
    for name, value in base.transformer.named_parameters():
        if is_lora(name):
            value.data = value.data.bfloat16().float()
    return base


@pytest.mark.parametrize("architecture", list(LORA_RANK))
def test_what_was_trained_draws_the_same_in_the_host(
    server: ComfyServer, architecture: str, repository: Path, tmp_path: Path
) -> None:
    case = Case(architecture, is_edit=False)
    write_files(server, case)
    config = train(server, case, repository, tmp_path)
    for file in (tmp_path / "models").rglob("*.safetensors"):
        install(file, server.base / "models" / file.relative_to(tmp_path / "models"), architecture)

    checkpoint, prefix = f"{NAME}.safetensors", f"trained_{architecture}"
    graph = graph_of(case, prefix)
    graph["loader"]["inputs"]["checkpoint"] = checkpoint
    if LORA_RANK[architecture] is None:
        graph["model"]["inputs"]["unet_name"] = f"{NAME}_diffusion_model.safetensors"
    else:
        name = f"{NAME}_lora.safetensors"
        graph["lora"] = node("LoraLoaderModelOnly", model=["model", 0], lora_name=name, strength_model=1.0)
        graph["apply"]["inputs"]["model"] = ["lora", 0]
    warnings = server.log_text().count("was trained")
    found = drawn_by_host(server, graph, prefix)
    assert server.log_text().count("was trained") == warnings
    expected = sf_model_image(server, trained_base(server, case, repository, config, tmp_path), case, checkpoint)
    assert distance(found, expected) < TOLERANCE
    with torch.no_grad():
        untrained = sf_model_image(server, load_base(server, case, repository), case, checkpoint)
    assert distance(untrained, expected) > 10 * TOLERANCE  # what the diffusion model learned is no small part of it


# Of the Mini's graph: pixels a side, seeds, steps and guidances of depth and image.
SIDE = 64
DEPTH = {"seed": 5, "steps": 3, "guidance": 2.0}
IMAGE = {"seed": 11, "steps": 4, "cfg": 3.0}


def train_mini(repository: Path, folder: Path) -> Path:
    """A smoke run from nothing, fast enough that two steps are seen; the exported folder."""
    settings = dataclasses.replace(smoke(load_settings(repository / "configs/mini.yaml")), runs=str(folder / "runs"))
    values = plain_settings(settings)
    for name in STAGE_NAMES:
        values[name]["loop"] |= {"learning_rate": 0.02, "sheet_every": 100}
    config = folder / "mini.yaml"
    config.write_text(yaml.safe_dump(values), encoding="utf-8")
    run_command("all", config, "--output", str(folder / "exported"))
    return folder / "exported"


def pack_with(exported: Path, checkout: Path, target: Path) -> Path:
    """A copy of the pack whose built-in Mini is the exported one."""
    shutil.copytree(checkout, target, ignore=shutil.ignore_patterns(".git"))
    built_in = target / MINI_DIR.relative_to(Path(__file__).resolve().parents[2])
    shutil.rmtree(built_in / TOKENIZER_DIR)
    shutil.copytree(exported, built_in, dirs_exist_ok=True)
    return target


def mini_graph(prefix: str) -> Graph:
    graph = apply_graph()
    graph["predict"]["inputs"] |= {"width": SIDE, "height": SIDE, "mode": "sampled", **DEPTH}
    add_sampler(graph, width=SIDE, height=SIDE, depth_guidance=None, **IMAGE)
    graph["latent"] = node("EmptyLatentImage", width=SIDE, height=SIDE, batch_size=1)
    graph["image"] = node("VAEDecode", samples=["sampler", 0], vae=VAE)
    graph["save"] = node("ProbeSave", value=["image", 0], file=f"{prefix}_image.safetensors")
    return graph


@torch.no_grad()
def mini_image(exported: Path, with_depth: bool = True) -> torch.Tensor:
    """(1, 3, H, W) in [0, 1], as the graph draws it, by sf_model alone."""
    system = load_exported(exported)
    prompt, empty = (system.base.encode(*system.base.tokens.batch([text], False), None) for text in (PROMPT, ""))
    inputs = system.with_layout(system.inputs(prompt, SIDE, SIDE), [DEPTH["seed"]])
    noise = draw_noise(system.predictor.noise_shape(1, SIDE, SIDE), DEPTH["seed"])
    depth = system.predictor.sample(inputs, DepthSampling(noise, DEPTH["steps"], DEPTH["guidance"])).to_metric_depth()
    cells = system.base.encode_image(torch.zeros(1, 3, SIDE, SIDE)).shape
    noise = torch.randn(cells, generator=torch.Generator().manual_seed(IMAGE["seed"]))
    features = system.features(depth, noise) if with_depth else None
    latent = system.draw(prompt, empty, features, noise, ImageSampling(IMAGE["steps"], IMAGE["cfg"]))
    return system.base.decode_latent(latent)


@pytest.mark.parametrize("version", list(hosts.RELEASES))
def test_a_mini_from_nothing_draws_the_same_in_the_host(
    version: str, repository: Path, checkout: Path, tmp_path: Path
) -> None:
    """`all` with the sizes of --smoke, in the place of the built-in Mini."""
    exported = train_mini(repository, tmp_path)
    server = ComfyServer(repository, version, tmp_path / "host", link_pack=False)
    link_folder(server.base / "custom_nodes" / PACK_FOLDER, pack_with(exported, checkout, tmp_path / "pack"))
    link_folder(server.base / "custom_nodes" / PROBE_NODES.name, PROBE_NODES)
    server.start()
    try:
        found = drawn_by_host(server, mini_graph("mini"), "mini")
    finally:
        server.stop()
    expected = mini_image(exported)
    assert found.shape == expected.shape == (1, 3, SIDE, SIDE)
    assert distance(found, expected) < TOLERANCE
    assert distance(mini_image(exported, with_depth=False), expected) > 10 * TOLERANCE  # the depth is no small part

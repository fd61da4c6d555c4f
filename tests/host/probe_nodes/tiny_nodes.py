"""What the stock loaders give, for the tiny bases of `tiny_bases`: stand-ins for the nodes that load real files."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import comfy.controlnet
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import folder_paths
import torch
from comfy.ldm.qwen_image.controlnet import QwenImageControlNetModel
from comfy_api.v0_0_2 import io
from comfy_extras.nodes_model_patch import QwenImageBlockWiseControlNet

from . import tiny_bases

CATEGORY = "SpatialFusion tests"
CHANGED_TOKENS: list[list[list[Any]]] = []
TOKEN_HOOKS: list[Any] = []
WEIGHT_DTYPES = {
    "default": {},
    "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn},
    "fp8_e5m2": {"dtype": torch.float8_e5m2},
}


def folder() -> Path:
    return Path(folder_paths.models_dir) / "tiny"


def loading_inputs(architectures: Iterable[str]) -> list[io.Input]:
    """What is loaded, as which numbers its file holds it, and the seed of its weights."""
    return [
        io.Combo.Input("architecture", options=list(architectures)),
        io.Combo.Input("stored", options=list(tiny_bases.STORED)),
        io.Int.Input("seed", default=0),
    ]


class ProbeTinyModel(io.ComfyNode):
    """Load Diffusion Model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            "ProbeTinyModel",
            category=CATEGORY,
            inputs=[
                *loading_inputs(tiny_bases.TRANSFORMERS),
                io.Combo.Input("weight_dtype", options=list(WEIGHT_DTYPES)),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, architecture: str, stored: str, weight_dtype: str, seed: int) -> io.NodeOutput:
        options = WEIGHT_DTYPES[weight_dtype]
        return io.NodeOutput(tiny_bases.load_model(architecture, folder(), stored, seed, **options))


class ProbeTinyClip(io.ComfyNode):
    """Load CLIP. type: the base that it is loaded for; "" is its own."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            "ProbeTinyClip",
            category=CATEGORY,
            inputs=[*loading_inputs(tiny_bases.TEXT_MODELS), io.String.Input("type", default="")],
            outputs=[io.Clip.Output()],
        )

    @classmethod
    def execute(cls, architecture: str, stored: str, type: str, seed: int) -> io.NodeOutput:
        return io.NodeOutput(tiny_bases.load_clip(architecture, folder(), stored, seed, type or None))


class ProbeTinyVae(io.ComfyNode):
    """Load VAE, for Qwen-Image's."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema("ProbeTinyVae", category=CATEGORY, inputs=[], outputs=[io.Vae.Output()])

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(tiny_bases.load_vae(folder()))


class ProbeTinyModelPatch(io.ComfyNode):
    """Model Patch Loader, for Qwen-Image's DiffSynth depth ControlNet."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            "ProbeTinyModelPatch", category=CATEGORY, inputs=[], outputs=[io.Custom("MODEL_PATCH").Output()]
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        sizes = tiny_bases.QWEN_IMAGE
        width = sizes["num_attention_heads"] * sizes["attention_head_dim"]
        module = QwenImageBlockWiseControlNet(
            num_layers=sizes["num_layers"], dim=width, dtype=torch.float32, operations=comfy.ops.manual_cast
        )
        patcher = comfy.model_patcher.CoreModelPatcher(
            module,
            load_device=comfy.model_management.get_torch_device(),
            offload_device=comfy.model_management.unet_offload_device(),
        )
        module.load_state_dict(tiny_bases.random_weights(module, 5), assign=patcher.is_dynamic())
        return io.NodeOutput(patcher)


class ProbeTinyControlNet(io.ComfyNode):
    """Load ControlNet Model, for Qwen-Image's."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema("ProbeTinyControlNet", category=CATEGORY, inputs=[], outputs=[io.ControlNet.Output()])

    @classmethod
    def execute(cls) -> io.NodeOutput:
        module = QwenImageControlNetModel(
            **tiny_bases.QWEN_IMAGE, dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init
        )
        path = tiny_bases.write_file(folder(), "controlnet", tiny_bases.random_weights(module, 6))
        with tiny_bases.tiny_sizes("qwen_image"):
            return io.NodeOutput(comfy.controlnet.load_controlnet(str(path)))


class ProbeTokens(io.ComfyNode):
    """A MODEL that records which tokens of its patch embedder the pack changes, call by call."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [io.Model.Input("model"), io.String.Input("embedder")]
        return io.Schema("ProbeTokens", category=CATEGORY, inputs=inputs, outputs=[io.Model.Output()])

    @classmethod
    def fingerprint_inputs(cls, model: Any = None, embedder: str = "") -> float:
        return float("nan")

    @classmethod
    def execute(cls, model: Any, embedder: str) -> io.NodeOutput:
        CHANGED_TOKENS.clear()

        def record(module: torch.nn.Module, arguments: tuple[Any, ...], output: torch.Tensor) -> None:
            own = module.forward._forward(*arguments)  # what the pack's stand-in was put in place of
            changed = (output != own).any(dim=(0, 2)).tolist()
            CHANGED_TOKENS.append([[value, len(list(run))] for value, run in itertools.groupby(changed)])

        TOKEN_HOOKS.append(getattr(model.model.diffusion_model, embedder).register_forward_hook(record))
        return io.NodeOutput(model)


class ProbeChangedTokens(io.ComfyNode):
    """Shows what ProbeTokens recorded until `after` was made: of every call [changed, how many] in their order."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [io.Latent.Input("after")]
        return io.Schema("ProbeChangedTokens", category=CATEGORY, inputs=inputs, is_output_node=True)

    @classmethod
    def fingerprint_inputs(cls, after: Any = None) -> float:
        return float("nan")

    @classmethod
    def execute(cls, after: dict[str, Any]) -> io.NodeOutput:
        while TOKEN_HOOKS:
            TOKEN_HOOKS.pop().remove()
        return io.NodeOutput(ui={"calls": list(CHANGED_TOKENS)})


NODES: list[type[io.ComfyNode]] = [
    ProbeTokens,
    ProbeChangedTokens,
    ProbeTinyModel,
    ProbeTinyClip,
    ProbeTinyVae,
    ProbeTinyModelPatch,
    ProbeTinyControlNet,
]

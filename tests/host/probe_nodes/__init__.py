"""Nodes for the tests only: they look into values that no node of the host shows, and make inputs that none makes.

The tests link this folder into the server's custom_nodes beside the pack.
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import time
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_sampling
import comfy.patcher_extension
import folder_paths
import safetensors.torch
import torch
from comfy_api.v0_0_2 import ComfyExtension, io

from . import scaffold_nodes, tile_nodes, tiny_files, tiny_nodes, value_nodes

CATEGORY = "SpatialFusion tests"
FORWARD_CALLS = {"calls": 0, "conditions": 0}
ADAPTER_CALLS = {"calls": 0}


def _digest(value: Any) -> str:
    """A hash of every tensor and number in nested lists and dicts, so that equal means bit-identical."""
    digest = hashlib.sha256()

    def add(item: Any) -> None:
        if isinstance(item, torch.Tensor):
            digest.update(f"{item.dtype}{tuple(item.shape)}".encode())
            digest.update(item.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        elif isinstance(item, dict):
            for key in sorted(item):
                digest.update(key.encode())
                add(item[key])
        elif isinstance(item, (list, tuple)):
            for element in item:
                add(element)
        else:
            digest.update(repr(item).encode())

    add(value)
    return digest.hexdigest()


def _output(**values: Any) -> io.NodeOutput:
    return io.NodeOutput(ui={name: [value] for name, value in values.items()})


class ProbeDigest(io.ComfyNode):
    """Shows a hash of anything."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema("ProbeDigest", category=CATEGORY, inputs=[io.AnyType.Input("value")], is_output_node=True)

    @classmethod
    def fingerprint_inputs(cls, value: Any = None) -> float:
        return float("nan")  # the oldest host tells nothing of nodes that it did not run again

    @classmethod
    def execute(cls, value: Any) -> io.NodeOutput:
        return _output(digest=_digest(value))


class ProbeSave(io.ComfyNode):
    """Writes a tensor to a file of the output folder as it is, where the host's savers would round it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [io.AnyType.Input("value"), io.String.Input("file")]
        return io.Schema("ProbeSave", category=CATEGORY, inputs=inputs, is_output_node=True)

    @classmethod
    def execute(cls, value: Any, file: str) -> io.NodeOutput:
        tensor = value["samples"] if isinstance(value, dict) else value
        path = Path(folder_paths.get_output_directory()) / file
        safetensors.torch.save_file({"value": tensor.detach().cpu().contiguous()}, path)
        return _output(shape=list(tensor.shape))


class ProbeDistance(io.ComfyNode):
    """Shows the mean absolute difference of two latents, and the mean magnitude of the first."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [io.Latent.Input("a"), io.Latent.Input("b")]
        return io.Schema("ProbeDistance", category=CATEGORY, inputs=inputs, is_output_node=True)

    @classmethod
    def fingerprint_inputs(cls, a: Any = None, b: Any = None) -> float:
        return float("nan")

    @classmethod
    def execute(cls, a: dict[str, Any], b: dict[str, Any]) -> io.NodeOutput:
        first, second = a["samples"], b["samples"]
        return _output(distance=float((first - second).abs().mean()), magnitude=float(first.abs().mean()))


class ProbeCombine(io.ComfyNode):
    """The weighted sum of three latents."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        latents = [io.Latent.Input(name) for name in ("a", "b", "c")]
        weights = [io.Float.Input(f"weight_{name}", min=-100, max=100) for name in ("a", "b", "c")]
        return io.Schema("ProbeCombine", category=CATEGORY, inputs=[*latents, *weights], outputs=[io.Latent.Output()])

    @classmethod
    def execute(
        cls, a: dict[str, Any], b: dict[str, Any], c: dict[str, Any], weight_a: float, weight_b: float, weight_c: float
    ) -> io.NodeOutput:
        return io.NodeOutput({"samples": weight_a * a["samples"] + weight_b * b["samples"] + weight_c * c["samples"]})


class ProbeCount(io.ComfyNode):
    """A MODEL that counts its forward calls and the conditions in them, and counts the depth adapters' too."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema("ProbeCount", category=CATEGORY, inputs=[io.Model.Input("model")], outputs=[io.Model.Output()])

    @classmethod
    def fingerprint_inputs(cls, model: Any = None) -> float:
        return float("nan")  # counts anew in every run

    @classmethod
    def execute(cls, model: Any) -> io.NodeOutput:
        model = model.clone()
        FORWARD_CALLS.update(calls=0, conditions=0)
        ADAPTER_CALLS.update(calls=0)

        def count(executor: Any, x: torch.Tensor, t: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
            FORWARD_CALLS["calls"] += 1
            FORWARD_CALLS["conditions"] += len(arguments[3]["cond_or_uncond"])
            return executor(x, t, *arguments, **options)

        model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.APPLY_MODEL, "probe", count)
        for adapter in model.get_additional_models_with_key("spatialfusion"):
            _count_calls(adapter.model)
        return io.NodeOutput(model)


def _count_calls(module: torch.nn.Module) -> None:
    if not hasattr(module, "probe_counted"):
        module.probe_counted = True
        module.register_forward_hook(lambda *_: ADAPTER_CALLS.update(calls=ADAPTER_CALLS["calls"] + 1))


class ProbeCounts(io.ComfyNode):
    """Shows what ProbeCount counted until `after` was made."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema("ProbeCounts", category=CATEGORY, inputs=[io.Latent.Input("after")], is_output_node=True)

    @classmethod
    def fingerprint_inputs(cls, after: Any = None) -> float:
        return float("nan")

    @classmethod
    def execute(cls, after: dict[str, Any]) -> io.NodeOutput:
        return _output(**FORWARD_CALLS, adapter_calls=ADAPTER_CALLS["calls"])


def _wait_for_interrupt() -> None:
    """Return when the user has asked to cancel; give up after a minute, so that a test fails instead of hanging."""
    deadline = time.monotonic() + 60
    while not comfy.model_management.processing_interrupted() and time.monotonic() < deadline:
        time.sleep(0.01)


class ProbeHoldModel(io.ComfyNode):
    """A MODEL whose sampling goes on for some steps and then waits for a cancel."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            "ProbeHoldModel", category=CATEGORY, inputs=[io.Model.Input("model")], outputs=[io.Model.Output()]
        )

    @classmethod
    def fingerprint_inputs(cls, model: Any = None) -> float:
        return float("nan")

    @classmethod
    def execute(cls, model: Any) -> io.NodeOutput:
        calls = itertools.count()

        def hold(executor: Any, *arguments: Any, **options: Any) -> torch.Tensor:
            if next(calls) == 4:  # at most 3 calls a step: a step is done
                _wait_for_interrupt()
            return executor(*arguments, **options)

        model = model.clone()
        model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.APPLY_MODEL, "probe", hold)
        return io.NodeOutput(model)


class ProbeHoldPrediction(io.ComfyNode):
    """A SPATIALFUSION whose next prediction waits for a cancel in its first layer."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        spatialfusion = io.Custom("SPATIALFUSION")
        return io.Schema(
            "ProbeHoldPrediction",
            category=CATEGORY,
            inputs=[spatialfusion.Input("spatialfusion")],
            outputs=[spatialfusion.Output()],
        )

    @classmethod
    def fingerprint_inputs(cls, spatialfusion: Any = None) -> float:
        return float("nan")

    @classmethod
    def execute(cls, spatialfusion: Any) -> io.NodeOutput:
        def hold(*_: Any) -> None:
            hook.remove()  # the module is the real one, which other runs share
            _wait_for_interrupt()

        hook = spatialfusion.predictor.model.spatial_transformer.layers[0].register_forward_pre_hook(hold)
        return io.NodeOutput(spatialfusion)


class ProbeOutOfMemory(io.ComfyNode):
    """A SPATIALFUSION that runs out of memory the next time that it is used."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        spatialfusion = io.Custom("SPATIALFUSION")
        places = ["text encoder", "spatial transformer", "depth adapter"]
        return io.Schema(
            "ProbeOutOfMemory",
            category=CATEGORY,
            inputs=[spatialfusion.Input("spatialfusion"), io.Combo.Input("place", options=places)],
            outputs=[spatialfusion.Output()],
        )

    @classmethod
    def fingerprint_inputs(cls, spatialfusion: Any = None, place: str = "") -> float:
        return float("nan")

    @classmethod
    def execute(cls, spatialfusion: Any, place: str) -> io.NodeOutput:
        text_encoder = spatialfusion.clip.cond_stage_model.get_submodule(spatialfusion.decoder_path)
        module = {
            "text encoder": text_encoder.layers[0],
            "spatial transformer": spatialfusion.predictor.model.spatial_transformer.layers[0],
            "depth adapter": spatialfusion.adapter.model.blocks[0],
        }[place]

        def fail(*_: Any) -> None:
            hook.remove()  # the module is the real one, which other runs share
            raise torch.OutOfMemoryError("Allocation on device 0 would exceed allowed memory. (out of memory)")

        hook = module.register_forward_pre_hook(fail)
        return io.NodeOutput(spatialfusion)


class ProbeEpsModel(io.ComfyNode):
    """A MODEL that is not flow matching."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            "ProbeEpsModel", category=CATEGORY, inputs=[io.Model.Input("model")], outputs=[io.Model.Output()]
        )

    @classmethod
    def execute(cls, model: Any) -> io.NodeOutput:
        class EpsSampling(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.EPS):
            pass

        model = model.clone()
        model.add_object_patch("model_sampling", EpsSampling())
        return io.NodeOutput(model)


class ProbeHalveGuided(io.ComfyNode):
    """A MODEL with a post-CFG function that halves the guided prediction."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            "ProbeHalveGuided", category=CATEGORY, inputs=[io.Model.Input("model")], outputs=[io.Model.Output()]
        )

    @classmethod
    def execute(cls, model: Any) -> io.NodeOutput:
        model = model.clone()
        model.set_model_sampler_post_cfg_function(lambda arguments: 0.5 * arguments["denoised"])
        return io.NodeOutput(model)


class ProbeGeometry(io.ComfyNode):
    """A slanted plane, 2 m away at the left and 6 m at the right, as one of the host's geometries; or a broken one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        kinds = ["moge", "da3", "da3_small", "da3_views", "nan", "negative", "panorama", "without_depth"]
        kinds += ["zero", "infinite", "constant", "stretched", "cropped"]
        return io.Schema(
            "ProbeGeometry",
            category=CATEGORY,
            inputs=[
                io.Combo.Input("kind", options=kinds),
                io.Int.Input("width", default=64),
                io.Int.Input("height", default=64),
                io.Int.Input("batch", default=1),
            ],
            outputs=[io.Custom("MOGE_GEOMETRY").Output(), io.Custom("DA3_GEOMETRY").Output()],
        )

    @classmethod
    def execute(cls, kind: str, width: int, height: int, batch: int) -> io.NodeOutput:
        depth = torch.linspace(2, 6, width).expand(batch, height, width).clone()
        geometry: dict[str, Any] = {"depth": depth, "image": torch.zeros(batch, height, width, 3)}
        if kind.startswith("da3"):
            # The host's table: the Metric model has a sky and no confidence, Small and Base the other way round.
            geometry["mode"] = "multiview" if kind == "da3_views" else "mono"
            if kind == "da3":
                geometry["sky"] = torch.zeros(batch, height, width)
                geometry["sky"][:, : height // 4] = 0.9
            else:
                geometry["confidence"] = torch.full_like(depth, 2.0)
            if kind == "da3_views":
                # 90 degrees high, in pixels of the size at which the model ran: half of the depth's
                x, y = width / 4, height / 4
                focal_px = torch.tensor([[y, 0, x], [0, y, y], [0, 0, 1]])
                geometry["intrinsics"] = focal_px.expand(1, batch, 3, 3).clone()
            return io.NodeOutput(geometry, geometry)
        if kind == "nan":
            depth[:, -3, 3] = torch.nan
        if kind == "negative":
            depth[:, -3, 3] = -1.0
        if kind == "zero":
            depth[:, -3, 3] = 0.0
        if kind in ("infinite", "constant"):
            depth.fill_(torch.inf if kind == "infinite" else 3.0)
        geometry["mask"] = torch.ones_like(depth, dtype=torch.bool)
        geometry["mask"][:, : height // 4] = False
        if kind != "panorama":
            focal = torch.tensor([[0.5 * height / width, 0, 0.5], [0, 0.5, 0.5], [0, 0, 1]])  # 90 degrees high
            geometry["intrinsics"] = focal.expand(batch, 3, 3)
        if kind == "stretched":
            geometry["intrinsics"] = geometry["intrinsics"] * torch.tensor([2.0, 1.0, 1.0]).view(3, 1)
        if kind == "cropped":
            geometry["intrinsics"] = geometry["intrinsics"] + torch.tensor([[0, 0, 0.2], [0, 0, 0], [0, 0, 0]])
        if kind == "without_depth":
            del geometry["depth"]
        return io.NodeOutput(geometry, geometry)


class ProbeClipVision(io.ComfyNode):
    """The host's DINOv2, or CLIP's vision model, at a tiny size, with random weights."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            "ProbeClipVision",
            category=CATEGORY,
            inputs=[
                io.Int.Input("hidden_size", default=32),
                io.Combo.Input("kind", options=list(tiny_files.TINY_VISION), default="dinov2"),
            ],
            outputs=[io.ClipVision.Output()],
        )

    @classmethod
    def execute(cls, hidden_size: int, kind: str = "dinov2") -> io.NodeOutput:
        clip_vision = tiny_files.clip_vision(kind, hidden_size, layers=2)
        generator = torch.Generator().manual_seed(0)
        state = clip_vision.get_sd()
        clip_vision.load_sd({name: torch.randn(value.shape, generator=generator) for name, value in state.items()})
        return io.NodeOutput(clip_vision)


class ProbeMemory(io.ComfyNode):
    """Shows how many models the host holds, and their names; what only waits for the garbage collector is not held."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema("ProbeMemory", category=CATEGORY, inputs=[], is_output_node=True)

    @classmethod
    def fingerprint_inputs(cls) -> float:
        return float("nan")

    @classmethod
    def execute(cls) -> io.NodeOutput:
        gc.collect()
        comfy.model_management.cleanup_models()
        loaded = [type(patcher.model).__name__ for patcher in comfy.model_management.loaded_models()]
        return _output(loaded=sorted(loaded))


class ProbeExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            ProbeDigest,
            ProbeSave,
            ProbeDistance,
            ProbeCombine,
            ProbeCount,
            ProbeCounts,
            ProbeHoldModel,
            ProbeHoldPrediction,
            ProbeOutOfMemory,
            ProbeEpsModel,
            ProbeHalveGuided,
            ProbeGeometry,
            ProbeClipVision,
            ProbeMemory,
            *scaffold_nodes.NODES,
            *tile_nodes.NODES,
            *tiny_nodes.NODES,
            *tiny_files.NODES,
            *value_nodes.NODES,
        ]


async def comfy_entrypoint() -> ProbeExtension:
    tiny_files.prepare_stock_loaders()
    return ProbeExtension()

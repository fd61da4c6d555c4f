"""The measurement of `dev.py bench`, in a ComfyUI process without its server. Run by tools/bench.py.

A run is the cost of a new prompt: encoding, depth prediction and sampling. The decoder is left out: it costs the same
for all. The kinds of run take turns in one process, and ratios are taken within a turn.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import importlib.util
import json
import logging
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACK = "spatialfusion_bench"
PROMPT = "a red chair 2.0 m away, 0.6 m to the left, facing the camera; a blue sofa 5.0 m away, 1.2 m to the right"
CHECKPOINT = "bench.safetensors"
PROMPT_TOKENS = 100
PLAIN, DEPTH, PEER = "without", "SpatialFusion", "DiffSynth depth ControlNet"
GIB = 2**30
Run = Callable[[], Any]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", type=Path, required=True, help="the ComfyUI folder")
    parser.add_argument("--scratch", type=Path, required=True, help="an empty folder for the checkpoint")
    parser.add_argument("--size", required=True)
    parser.add_argument("--base", action="append", required=True)
    parser.add_argument("--repeats", type=int, required=True)
    parser.add_argument("--side", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cpu", action="store_true")
    return parser.parse_args()


def start_host(host: Path, base: Path, cpu: bool) -> None:
    """Import comfy, which parses sys.argv at its first import."""
    sys.path.insert(0, str(host))
    sys.argv = ["main.py", "--base-directory", str(base), *(["--cpu"] if cpu else [])]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.model_management

    logging.getLogger().setLevel(logging.ERROR)  # else it lists every missing tensor of the vision tower


def import_pack() -> ModuleType:
    """The pack's nodes, imported as ComfyUI does it."""
    spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = module
    spec.loader.exec_module(module)
    return importlib.import_module(f"{PACK}.nodes")


class PeakMemory:
    """`with PeakMemory() as peak:` sets `peak.bytes`: allocated on the GPU, or without one resident in the process."""

    def __init__(self) -> None:
        import psutil
        import torch

        self._cuda = torch.cuda if torch.cuda.is_available() else None
        self._process = psutil.Process()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.bytes = 0

    def __enter__(self) -> PeakMemory:
        if self._cuda is None:
            self._thread.start()
        else:
            self._cuda.reset_peak_memory_stats()
        return self

    def __exit__(self, *_: object) -> None:
        if self._cuda is None:
            self._ended.set()
            self._thread.join()
        else:
            self.bytes = self._cuda.max_memory_allocated()

    def _watch(self) -> None:
        while not self._ended.wait(0.005):
            self.bytes = max(self.bytes, self._process.memory_info().rss)


def peak_bytes(run: Run, other_bytes: int) -> int:
    """The peak memory of one run. other_bytes: of other kinds' weights, which stay in the process on a CPU."""
    import comfy.model_management
    import torch

    gc.collect()
    if torch.cuda.is_available():
        comfy.model_management.unload_all_models()
        comfy.model_management.soft_empty_cache()
        other_bytes = 0
    with PeakMemory() as peak:
        run()
    return peak.bytes - other_bytes


def seconds(run: Run) -> float:
    import torch

    started = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


class Bench:
    """The measurement of one base."""

    def __init__(self, name: str, options: argparse.Namespace, pack: ModuleType) -> None:
        import bench_bases

        self.bases, self.pack = bench_bases, pack
        self.architecture = bench_bases.ARCHITECTURES[name]
        size = bench_bases.SIZES[options.size]
        self.size = dataclasses.replace(size, side_px=options.side or size.side_px, steps=options.steps or size.steps)
        self.repeats = options.repeats
        self.checkpoints = options.scratch / "models" / "spatialfusion"
        self.model = bench_bases.load_model(self.architecture, self.size)
        self.clip = bench_bases.load_clip(self.architecture, self.size)

    def measure(self) -> dict[str, Any]:
        runs: dict[str, Run] = {PLAIN: self.plain}
        peaks = {PLAIN: peak_bytes(self.plain, 0)}
        self.load_spatialfusion()
        added = {DEPTH: self.weights(self.spatialfusion.predictor, self.spatialfusion.adapter)}
        runs[DEPTH] = self.with_depth
        peaks[DEPTH] = peak_bytes(self.with_depth, 0)
        if self.architecture.name == "qwen_image":
            self.peer_patch = self.bases.load_peer(self.architecture, self.size, self.model.model_dtype())
            self.vae = self.bases.load_vae(self.size)
            added[PEER] = self.weights(self.peer_patch)
            runs[PEER] = self.with_peer
            peaks[PEER] = peak_bytes(self.with_peer, added[DEPTH]["bytes"])
        times = self.times(runs)
        base = self.weights(self.model, self.clip.patcher)
        kinds = {
            kind: {
                "seconds": statistics.median(times[kind]),
                "time_ratio": statistics.median(a / b for a, b in zip(times[kind], times[PLAIN])),
                "time_ratios": [a / b for a, b in zip(times[kind], times[PLAIN])],
                "peak_bytes": peaks[kind],
                "peak_ratio": peaks[kind] / peaks[PLAIN],
                "added_parameters": added.get(kind, {"parameters": 0})["parameters"],
            }
            for kind in runs
        }
        return {
            "base": self.architecture.name,
            "side_px": self.size.side_px,
            "steps": self.size.steps,
            "cfg": self.architecture.cfg,
            "repeats": self.repeats,
            "dtype": str(self.model.model_dtype()),
            "base_parameters": base["parameters"],
            "kinds": kinds,
            "full_size": self.full_size(),
        }

    def times(self, runs: dict[str, Run]) -> dict[str, list[float]]:
        """Seconds of each kind in each turn. The order of the kinds changes from turn to turn."""
        result: dict[str, list[float]] = {kind: [] for kind in runs}
        kinds = list(runs)
        for kind in kinds:
            runs[kind]()  # loads everything before the clock runs
        for turn in range(self.repeats):
            for index in range(len(kinds)):
                kind = kinds[(index + turn) % len(kinds)]
                result[kind].append(seconds(runs[kind]))
        return result

    def weights(self, *patchers: Any) -> dict[str, int]:
        """Parameters and bytes, without the text encoder's vision tower, which a prompt does not use."""
        values = [
            value for patcher in patchers for name, value in patcher.model.named_parameters() if ".visual." not in name
        ]
        return {
            "parameters": sum(value.numel() for value in values),
            "bytes": sum(value.numel() * value.element_size() for value in values),
        }

    def load_spatialfusion(self) -> None:
        """Load a checkpoint with random weights, through Load SpatialFusion MLLM+MoT."""
        config = self.config()
        modules = sys.modules
        predictor = modules[f"{PACK}.sf_model.models.depth_predictor"].DepthPredictor(config)
        adapter = modules[f"{PACK}.sf_model.models.depth_adapter"].DepthAdapter(config.depth_adapter)
        adapter.out.weight.data.normal_(std=0.02)
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        import torch

        modules[f"{PACK}.sf_model.checkpoint"].save_checkpoint(
            self.checkpoints / CHECKPOINT,
            config,
            predictor.state_dict(),
            adapter.state_dict(),
            "random weights",
            {},
            torch.bfloat16,
        )
        del predictor, adapter
        self.spatialfusion = self.pack.SpatialFusionLoader.execute(self.clip, CHECKPOINT).args[0]

    def config(self) -> Any:
        """The base's configuration, fitted to the measured size."""
        configs = sys.modules[f"{PACK}.sf_model.config"]
        config = configs.CONFIGS[self.architecture.name]
        if self.size.spatial is None:
            return config
        width, layers = self.size.spatial
        text = self.bases.meta_text_encoder(self.architecture, self.size.text[self.architecture.name]).config
        mllm = dataclasses.replace(
            config.mllm,
            num_layers=text.num_hidden_layers,
            num_attention_heads=text.num_attention_heads,
            num_kv_heads=text.num_key_value_heads,
        )
        spatial = dataclasses.replace(config.spatial_transformer, num_layers=layers)
        config = dataclasses.replace(config, mllm=mllm, spatial_transformer=spatial)
        if width is None:
            return config
        return dataclasses.replace(
            config,
            spatial_transformer=dataclasses.replace(spatial, hidden_size=width, intermediate_size=2 * width),
            depth_head=dataclasses.replace(config.depth_head, reassemble_channels=(width,) * 4, fusion_channels=width),
        )

    def full_size(self) -> dict[str, Any]:
        """Parameters and operations at the real sizes, counted on meta tensors and not measured.

        added_flops_share: SpatialFusion's operations for an image, as a share of all passes of the transformer at the
        full size's steps with guidance. A pass counts 2 a parameter and token, and 4 a layer, width and token squared.
        mean_flops_share: the same with the mean depth instead of a sampled one.
        """
        config = sys.modules[f"{PACK}.sf_model.config"].CONFIGS[self.architecture.name]
        size = self.bases.SIZES["full"]
        sys.path.append(str(ROOT))  # last, because the host has modules of the same names
        from tools import counting

        modules = counting.meta_modules(config, size.side_px, PROMPT_TOKENS)
        transformer = self.bases.meta_transformer(self.architecture, self.architecture.sizes)
        parameters = self.bases.parameters(transformer)
        tokens = (size.side_px // 16) ** 2 + PROMPT_TOKENS
        one_pass = 2 * parameters * tokens + 4 * self.architecture.layers * self.architecture.width * tokens**2
        added = self.bases.parameters(modules.predictor) + self.bases.parameters(modules.adapter)
        sampling = importlib.import_module(f"{PACK}.sf_model.models.depth_flow").DepthSampling
        passes = sampling(noise=None).passes
        sampled, mean = (counting.spatial_flops(config, size.side_px, PROMPT_TOKENS, count) for count in (passes, 0))
        base = parameters + self.bases.parameters(self.bases.meta_text_encoder(self.architecture, {}))
        return {
            "added_parameters": added,
            "base_parameters": base,
            "added_share": added / base,
            "added_flops_share": sampled / (2 * size.steps * one_pass),
            "mean_flops_share": mean / (2 * size.steps * one_pass),
        }

    def plain(self) -> Any:
        return self.sample(self.model, self.encode(PROMPT))

    def with_depth(self) -> Any:
        side = self.size.side_px
        predicted = self.pack.SpatialFusionPredictDepth.execute(self.spatialfusion, PROMPT, side, side).args
        applied = self.pack.SpatialFusionApplyDepth.execute(self.model, self.spatialfusion, predicted[0], 1.0, 0.0, 1.0)
        return self.sample(applied.args[0], predicted[1])

    def with_peer(self) -> Any:
        """With a ready depth picture: the cost of making it is not counted."""
        import torch
        from comfy_extras.nodes_model_patch import QwenImageDiffsynthControlnet

        positive = self.encode(PROMPT)
        picture = torch.full((1, self.size.side_px, self.size.side_px, 3), 0.5)
        patched = QwenImageDiffsynthControlnet().diffsynth_controlnet(self.model, self.peer_patch, self.vae, picture)
        return self.sample(patched[0], positive)

    def encode(self, prompt: str) -> list[Any]:
        return self.clip.encode_from_tokens_scheduled(self.clip.tokenize(prompt))

    def sample(self, model: Any, positive: list[Any]) -> Any:
        import comfy.sample
        import torch

        cells = self.size.side_px // 8
        latent = comfy.sample.fix_empty_latent_channels(model, torch.zeros(1, 16, cells, cells))
        return comfy.sample.sample(
            model,
            comfy.sample.prepare_noise(latent, 0),
            self.size.steps,
            self.architecture.cfg,
            "euler",
            "simple",
            positive,
            self.encode(""),
            latent,
            disable_pbar=True,
            seed=0,
        )


def environment(options: argparse.Namespace) -> dict[str, Any]:
    import comfy.model_management
    import torch
    from comfyui_version import __version__ as host_version

    device = comfy.model_management.get_torch_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return {
        "commit": importlib.import_module(f"{PACK}.sf_model.training.revision").current_commit(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "comfyui": host_version,
        "torch": torch.__version__,
        "device": f"{name} ({platform.machine()})",
        "size": options.size,
    }


NOTES = {
    "full": "real sizes",
    "reduced": "REDUCED: real widths, few layers; SpatialFusion's share is larger than at full size",
    "tiny": "TINY: only shows that the measurement runs",
}


def markdown(result: dict[str, Any]) -> str:
    where = result["environment"]
    lines = [
        f"Random weights, {NOTES[where['size']]}. Commit {where['commit']}, ComfyUI {where['comfyui']}, torch "
        f"{where['torch']}, {where['device']}, {where['date']}.",
        "",
        "Peak memory: the GPU's, or on a CPU the process's. The ControlNet's time is without making its picture.",
        "",
        "| base | with | median | time | peak memory | of the base's | added parameters | of the base's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for base in result["bases"]:
        name = f"{base['base']}, {base['side_px']} px, {base['steps']} steps, {base['dtype'].split('.')[-1]}"
        for kind, figures in base["kinds"].items():
            cells = [
                name,
                kind,
                f"{figures['seconds']:.3f} s",
                f"{100 * (figures['time_ratio'] - 1):+.2f}%",
                f"{figures['peak_bytes'] / GIB:.2f} GiB",
                f"{100 * (figures['peak_ratio'] - 1):+.1f}%",
                f"{figures['added_parameters'] / 1e6:.1f} M",
                f"{100 * figures['added_parameters'] / base['base_parameters']:.1f}%",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    for base in result["bases"]:
        full = base["full_size"]
        lines.append(
            f"{base['base']} at full size, counted and not measured: {full['added_parameters'] / 1e6:.1f} M added to "
            f"{full['base_parameters'] / 1e9:.2f} B, {100 * full['added_share']:.1f}%; "
            f"{100 * full['added_flops_share']:.2f}% more operations for a 20-step image of 1024 px with guidance "
            f"({100 * full['mean_flops_share']:.2f}% with the mean depth)."
        )
    return "\n".join(lines)


def main() -> None:
    options = parse_arguments()
    start_host(options.host, options.scratch, options.cpu)
    import torch

    pack = import_pack()
    bases = []
    with torch.inference_mode():
        for name in options.base:
            bases.append(Bench(name, options, pack).measure())
            gc.collect()
    result = {"environment": environment(options), "bases": bases}
    print(markdown(result))
    print(f"\n```json\n{json.dumps(result, indent=2)}\n```")
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Fills the store from a source: checks every sample once, crops it to its bucket, and computes what is cached.

Cached latents always pay: no VAE in memory, and no pass of it in every step. Cached prompt keys/values (1 to 4 MB a
prompt) pay if the MLLM does not fit into memory beside the diffusion model. Shards depend neither on one another nor on
the number of processes, so that a killed run can continue.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from tqdm import tqdm

from ...depth.fitting import same_aspect
from ..bases.base import Base, Prompt
from ..bases.loading import load_base, spatial_config
from ..process_state import process_state
from ..settings import DataSettings, TrainingSettings
from .buckets import Crop, Size, bucket_sizes, nearest
from .samples import Sample, SampleProblem
from .sources import FolderSource, StreamSource, open_source
from .store import COMPLETE_FILE, Problem, Row, Store

GIGABYTE = 1e9


@dataclass(frozen=True)
class PreparedSample:
    """One usable sample at its bucket's size: rgb and source (3, H, W) uint8, depth_m (H, W)."""

    row: Row
    rgb: torch.Tensor
    depth_m: torch.Tensor
    source: torch.Tensor | None


def prepare_sample(sample: Sample, sizes: list[Size], settings: DataSettings) -> PreparedSample:
    """Crop a sample. SampleProblem, with the reason, if it cannot be used."""
    rgb = sample.rgb()
    if not sample.caption:
        raise SampleProblem(
            "missing_caption", "it has no caption; write one beside the image (.txt) or in the metadata"
        )
    depth = sample.metric_depth()
    height, width = rgb.shape[-2:]
    crop = Crop(height, width, nearest(sizes, height, width))
    if crop.scale > settings.max_upscale:
        raise SampleProblem(
            "too_small",
            f"{width}x{height} would be enlarged {crop.scale:.2f} times; data.max_upscale allows "
            f"{settings.max_upscale:g}",
        )
    _check_aspect("depth_size", "depth", tuple(depth.depth.shape[-2:]), (height, width))
    source = sample.source_rgb()
    if source is not None:
        _check_aspect("source_size", "source image", tuple(source.shape[-2:]), (height, width))
        source = Crop(*source.shape[-2:], crop.size).image(source)
    fov = crop.fov_y_deg(float(depth.fov_y_deg[0]))
    row = Row(sample.key, crop.size, sample.caption, source is not None, fov)
    return PreparedSample(row, crop.image(rgb), crop.depth(depth.depth[0]), source)


def _check_aspect(kind: str, what: str, found: Size, image: Size) -> None:
    if not same_aspect(found, image):
        raise SampleProblem(
            kind, f"its {what} is {found[1]}x{found[0]}, the image {image[1]}x{image[0]}: not the same picture"
        )


# Fields of DataSettings that do not change the content of a shard: paths, and how its samples are used.
FREE_SETTINGS = ("path", "depth", "prepared", "problems", "max_gb", "validation_samples")


def cache_settings(settings: DataSettings, base: Base | None, layers_read: int) -> dict[str, Any]:
    """Everything that a store's contents depend on, except its sources. `base` is needed unless nothing is cached."""
    cached_of: dict[str, Any] = {}
    if settings.cache != "nothing":
        assert base is not None
        cached_of = base.cache_identity(prompts=settings.cache == "latents+prompts", layers_read=layers_read)
    values = {name: value for name, value in asdict(settings).items() if name not in FREE_SETTINGS}
    return {**values, "cached_of": cached_of}


class Preparation:
    """Fills a store. `base` is needed unless nothing is cached. Every process makes its share of the shards."""

    def __init__(
        self,
        store: Store,
        source: FolderSource | StreamSource,
        settings: DataSettings,
        base: Base | None,
        layers_read: int,
    ) -> None:
        self.store, self.source, self.settings, self.base = store, source, settings, base
        self.layers_read = layers_read
        self.sizes = bucket_sizes(settings.area_px, settings.bucket_step, settings.max_aspect)

    def begin(self) -> int:
        """Claim the folder and delete shards whose sources changed. Returns their number. For one process only."""
        self.store.begin(cache_settings(self.settings, self.base, self.layers_read))
        return self.store.drop_stale(self._digest)

    def _digest(self, number: int) -> str:
        return self.source.digest(number, self.settings.samples_per_shard)

    def run(self, rank: int = 0, world: int = 1) -> int:
        """Write this process's missing shards. Returns how many samples were left out because the store is full."""
        left_out = 0
        digests: dict[int, str] = {}
        progress = tqdm(desc="samples", disable=rank != 0, mininterval=5)

        def wanted(number: int) -> bool:
            if number % world != rank or self.store.shard_path(number).exists():
                return False
            # Taken before the samples are read: if they change meanwhile, the next run notices it.
            digests[number] = self._digest(number)
            return True

        for number, block in self.source.blocks(self.settings.samples_per_shard, wanted):
            progress.update(len(block))
            if self.store.size_bytes() >= self.settings.max_gb * GIGABYTE:
                left_out += len(block)
                continue
            self._write(number, block, digests.pop(number))
        progress.close()
        return left_out

    def _write(self, number: int, block: list[Sample | SampleProblem], sources: str) -> None:
        rows: list[Row] = []
        problems: list[Problem] = []
        tensors: dict[str, torch.Tensor] = {}
        for index, sample in enumerate(block):
            try:
                if isinstance(sample, SampleProblem):
                    raise sample
                prepared = prepare_sample(sample, self.sizes, self.settings)
            except SampleProblem as problem:
                key = sample.key or f"sample {number * self.settings.samples_per_shard + index}"
                problems.append(Problem(key, problem.kind, str(problem)))
                continue
            tensors |= {f"{len(rows)}.{name}": value for name, value in self._tensors(prepared).items()}
            rows.append(prepared.row)
        self.store.write_shard(number, rows, problems, tensors, sources)

    @torch.no_grad()
    def _tensors(self, sample: PreparedSample) -> dict[str, torch.Tensor]:
        # Downscaled by picking single values: an average would invent depths between surfaces.
        step = self.settings.depth_downscale
        tensors = {"depth_m": sample.depth_m[step // 2 :: step, step // 2 :: step].half()}
        if sample.source is not None:
            tensors["source"] = sample.source
        if self.settings.cache == "nothing":
            return {**tensors, "rgb": sample.rgb}
        assert self.base is not None
        tensors["latent"] = self.base.encode_image(_unit(sample.rgb, self.base))[0].half()
        if sample.source is not None:
            tensors["source_latent"] = self.base.encode_image(_unit(sample.source, self.base))[0].half()
        if self.settings.cache == "latents+prompts":
            tensors |= self._prompt_tensors(sample)
        return tensors

    def _prompt_tensors(self, sample: PreparedSample) -> dict[str, torch.Tensor]:
        assert self.base is not None
        prompt = self._encode(sample.row.caption, sample.source)
        read = [torch.stack(pair) for pair in self.base.keep_read(prompt.keys_values, self.layers_read) if pair]
        empty = self._encode("", sample.source)
        return {
            "hidden": prompt.hidden[0].to(self.base.dtype),
            "hidden_mask": prompt.hidden_mask[0],
            "keys_values": torch.stack(read)[:, :, 0].to(self.base.dtype),
            "prompt_mask": prompt.mask[0].clone(),
            "next_position": prompt.next_position[0].clone(),
            "empty_hidden": empty.hidden[0].to(self.base.dtype),
            "empty_mask": empty.hidden_mask[0],
        }

    def _encode(self, caption: str, source: torch.Tensor | None) -> Prompt:
        assert self.base is not None
        seen = source if self.base.mllm_sees_source else None
        ids, mask = self.base.tokens.batch([caption], source is not None)
        device = next(self.base.text_encoder.parameters()).device
        return self.base.encode(ids.to(device), mask.to(device), None if seen is None else _unit(seen, self.base))


def _unit(rgb: torch.Tensor, base: Base) -> torch.Tensor:
    """(3, H, W) uint8 -> (1, 3, H, W) in [0, 1] on the base's device."""
    return rgb[None].to(next(base.vae.parameters()).device).float() / 255


def prepare_store(settings: TrainingSettings) -> None:
    """The `cache` command: fill the store of a config file, on all processes.

    ValueError if the config has no images, or (with problems: refuse) if samples cannot be used.
    """
    if settings.data is None:
        raise ValueError("cache is for images on disk; this config's data is the synthetic world, which needs none")
    data, config, state = settings.data, spatial_config(settings), process_state()
    base = None if data.cache == "nothing" else load_base(settings).to(state.device)
    store = Store(Path(data.prepared))
    source = open_source(data.kind, data.path, data.depth)
    preparation = Preparation(store, source, data, base, config.spatial_transformer.num_layers)
    if state.is_main_process and (changed := preparation.begin()):
        print(f"{store.folder}: the sources of {changed} shards have changed, they are made again")
    state.wait_for_everyone()
    left_out = sum(gather_object([preparation.run(state.process_index, state.num_processes)]))
    if not state.is_main_process:
        return
    counts = store.finish(left_out)
    print(f"{store.folder}: {describe(counts)}")
    if counts["problems"] and data.problems == "refuse":
        (store.folder / COMPLETE_FILE).unlink()
        raise ValueError(
            f"repair the samples that {store.folder}/problems.jsonl names and delete that folder, or set data.problems "
            f"to skip: {sum(counts['problems'].values())} of them cannot be used"
        )


def describe(counts: dict[str, Any]) -> str:
    """The counts as one sentence."""
    problems = ", ".join(f"{count} {kind}" for kind, count in sorted(counts["problems"].items())) or "none"
    left_out = f"; {counts['left_out_for_size']} left out at data.max_gb" if counts["left_out_for_size"] else ""
    share = 100 * sum(counts["problems"].values()) / max(1, counts["usable"] + sum(counts["problems"].values()))
    usable = f"{counts['usable']} usable samples ({counts['edits']} edits)"
    return f"{usable}; unusable: {problems} ({math.ceil(share)}%){left_out}"

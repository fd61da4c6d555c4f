"""Draws images with a trained system from texts, depths and noise. Every benchmark uses it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from .. import world
from ..backbones.mini import (
    DIT_FILE,
    IMAGE_SIZE_PX,
    MINI_DIR,
    MLLM_FILE,
    SPATIALFUSION_FILE,
    load_base_weights,
)
from ..depth.metric_depth import MetricDepth
from ..models.depth_flow import DEFAULT_GUIDANCE, DEFAULT_STEPS, DepthSampling, draw_noise
from ..models.depth_prediction import DepthPrediction
from ..models.expert_inputs import ExpertInputs
from ..training.bases.base import Prompt
from ..training.export import load_exported
from ..training.system import IMAGE_GUIDANCE, IMAGE_STEPS, ImageSampling

BUILTIN = "builtin"
# Gives every pair of seed and prompt number its own noise seed.
NOISE_SEED_STRIDE = 1_000_003


def weights_directory(name: str) -> Path:
    """The folder that --weights names."""
    return MINI_DIR if name == BUILTIN else Path(name)


def weights_name(directory: Path) -> str:
    """The name of this folder in reports. The built-in weights have the same name on every machine."""
    return BUILTIN if directory == MINI_DIR else str(directory)


def weights_sha256(directory: Path) -> str:
    """One digest of the three weight files together. ValueError if one is missing."""
    digest = hashlib.sha256()
    for name in (MLLM_FILE, DIT_FILE, SPATIALFUSION_FILE):
        if not (directory / name).is_file():
            raise ValueError(f"{directory} has no {name}: it is no folder that `training export` wrote")
        digest.update((directory / name).read_bytes())
    return digest.hexdigest()[:16]


def own_image_size(directory: Path) -> int:
    """Pixels a side of the images that a folder's weights draw. ValueError for any other folder."""
    return load_base_weights(directory / DIT_FILE).image_size or IMAGE_SIZE_PX


def no_depth(batch: int, image_size: int) -> MetricDepth:
    """A scaffold of confidence 0: the adapter's features are 0, the diffusion model is free."""
    ones = torch.ones(batch, image_size, image_size)
    return MetricDepth(ones, torch.zeros_like(ones), torch.full((batch,), 55.0))


def rendered_depth(rendering: world.Rendering, scenes: Sequence[world.Scene]) -> MetricDepth:
    """The depth of the scenes' rendering, with confidence 1."""
    fov = torch.tensor([scene.camera.fov_y_deg for scene in scenes])
    return MetricDepth(rendering.depth_m, torch.ones_like(rendering.depth_m), fov)


def scene_depth(scenes: Sequence[world.Scene], image_size: int) -> MetricDepth:
    """The scenes' true depth, with confidence 1."""
    return rendered_depth(world.render(scenes, image_size, image_size), scenes)


Predictor = Callable[..., DepthPrediction]
"""(texts, their numbers, and for edits the sources) -> maps of the benchmark's size."""


class SystemSampler:
    """An exported system that draws and predicts for plain texts. ValueError for any other directory.

    bfloat16: use autocast, which is 2.7 times faster on a CPU with AVX-512. Images change by 0.002 and depth by 0.2% on
    average. image_size: pixels a side; default: the weights' own. depth_steps, depth_guidance: for sampled depths;
    default: the nodes'.
    """

    def __init__(
        self,
        directory: Path,
        steps: int = IMAGE_STEPS,
        guidance: float = IMAGE_GUIDANCE,
        bfloat16: bool = True,
        image_size: int | None = None,
        depth_steps: int = DEFAULT_STEPS,
        depth_guidance: float = DEFAULT_GUIDANCE,
    ) -> None:
        self.system = load_exported(directory)
        self.image_size = image_size or self.system.base.sizes.image_size
        self.image_sampling, self.bfloat16 = ImageSampling(steps, guidance), bfloat16
        self.depth_steps, self.depth_guidance = depth_steps, depth_guidance

    @torch.no_grad()
    def encode(self, texts: Sequence[str], sources: torch.Tensor | None = None) -> Prompt:
        """One pass of the MLLM. sources: (B, 3, S, S) in [0, 1], the images that the texts edit."""
        ids, mask = self.system.base.tokens.batch(texts, sources is not None)
        return self.system.base.encode(ids, mask, None)

    def noise(self, numbers: Sequence[int], seed: int, image_size: int | None = None) -> torch.Tensor:
        """Latent noise (B, C, h, w). A prompt number has the same noise in every row of a table."""
        size = image_size or self.image_size
        shape = self._latents(torch.zeros(1, 3, size, size)).shape[1:]
        noises = []
        for number in numbers:
            generator = torch.Generator().manual_seed(seed * NOISE_SEED_STRIDE + number)
            noises.append(torch.randn(shape, generator=generator))
        return torch.stack(noises)

    @torch.no_grad()
    def _latents(self, images: torch.Tensor) -> torch.Tensor:
        return self.system.base.encode_image(images)

    def _inputs(self, texts: Sequence[str], sources: torch.Tensor | None, seeds: Sequence[int]) -> ExpertInputs:
        """seeds: of the layouts, where the weights draw one first."""
        size = self.image_size if sources is None else sources.shape[-1]
        return self.system.with_layout(self.system.inputs(self.encode(texts, sources), size, size, sources), seeds)

    @torch.no_grad()
    def predict(self, texts: Sequence[str], sources: torch.Tensor | None = None) -> DepthPrediction:
        """The mean depth (B, S, S) of the images that the texts describe, or of the edits of `sources` (B, 3, S, S)."""
        inputs = self._inputs(texts, sources, range(len(texts)))
        with self._precision():
            return self.system.mean_depth(inputs)

    @torch.no_grad()
    def sample(
        self, texts: Sequence[str], numbers: Sequence[int], seed: int, sources: torch.Tensor | None = None
    ) -> DepthPrediction:
        """The same for one sampled scene, which depends on the prompt's number and the seed. Needs a depth flow."""
        seeds = [seed * NOISE_SEED_STRIDE + number for number in numbers]
        inputs = self._inputs(texts, sources, seeds)
        shape = self.system.predictor.noise_shape(1, inputs.height, inputs.width)
        noise = torch.cat([draw_noise(shape, one) for one in seeds])
        with self._precision():
            return self.system.predictor.sample(inputs, DepthSampling(noise, self.depth_steps, self.depth_guidance))

    def predict_depth(self, texts: Sequence[str], sources: torch.Tensor | None = None) -> MetricDepth:
        """The metric depth of `predict`."""
        return self.predict(texts, sources).to_metric_depth()

    def sample_depth(
        self, texts: Sequence[str], numbers: Sequence[int], seed: int, sources: torch.Tensor | None = None
    ) -> MetricDepth:
        """The metric depth of `sample`."""
        return self.sample(texts, numbers, seed, sources).to_metric_depth()

    def predictors(self, seed: int) -> dict[str, Predictor]:
        """ "mean", and "sampled" if there is a depth flow. The depth benchmarks compare these."""
        found: dict[str, Predictor] = {"mean": lambda texts, numbers, sources=None: self.predict(texts, sources)}
        if self.samples_depth:
            found["sampled"] = lambda texts, numbers, sources=None: self.sample(texts, numbers, seed, sources)
        return found

    @property
    def samples_depth(self) -> bool:
        """Whether scenes can be sampled, as the nodes do by default."""
        return self.system.predictor.depth_flow is not None

    @property
    def reads_depth(self) -> bool:
        """Whether the adapter was trained. A base and the data-only control draw without depth."""
        return bool(self.system.adapter.out.weight.count_nonzero())

    def scaffold(
        self, texts: Sequence[str], numbers: Sequence[int], seed: int, sources: torch.Tensor | None = None
    ) -> MetricDepth:
        """The depth that the nodes give by default: a sampled scene, or the mean if only that was trained."""
        if self.samples_depth:
            return self.sample_depth(texts, numbers, seed, sources)
        return self.predict_depth(texts, sources)

    @property
    def takes_source(self) -> bool:
        """Whether it was trained to edit images."""
        return self.system.base.gives_features

    @torch.no_grad()
    def draw(
        self, texts: Sequence[str], depth: MetricDepth, noise: torch.Tensor, sources: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Images (B, 3, S, S) in [0, 1]. sources: images of the same size that the texts edit."""
        prompt, empty = self.encode(texts, sources), self.encode([""] * len(texts), sources)
        reference = None if sources is None else self._latents(sources)
        with self._precision():
            features = self.system.features(depth, noise)
            latent = self.system.draw(prompt, empty, features, noise, self.image_sampling, reference, reference)
            return self.system.base.decode_latent(latent)

    def _precision(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16)

"""Images of a trained system for given texts, depths and noise: what every benchmark here draws."""

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
# Keeps the noises of neighbouring prompts apart.
NOISE_SEED_STRIDE = 1_000_003


def weights_directory(name: str) -> Path:
    """The folder that --weights names."""
    return MINI_DIR if name == BUILTIN else Path(name)


def weights_name(directory: Path) -> str:
    """What names this folder: the same for everyone who has the same pack."""
    return BUILTIN if directory == MINI_DIR else str(directory)


def weights_sha256(directory: Path) -> str:
    """One digest of the three weight files together. ValueError where one is missing."""
    digest = hashlib.sha256()
    for name in (MLLM_FILE, DIT_FILE, SPATIALFUSION_FILE):
        if not (directory / name).is_file():
            raise ValueError(f"{directory} has no {name}: it is no folder that `training export` wrote")
        digest.update((directory / name).read_bytes())
    return digest.hexdigest()[:16]


def own_image_size(directory: Path) -> int:
    """Pixels a side of the images that a folder's weights draw. ValueError for a foreign folder."""
    return load_base_weights(directory / DIT_FILE).image_size or IMAGE_SIZE_PX


def no_depth(batch: int, image_size: int) -> MetricDepth:
    """A scaffold of confidence 0: the adapter's features are 0, the diffusion model is free."""
    ones = torch.ones(batch, image_size, image_size)
    return MetricDepth(ones, torch.zeros_like(ones), torch.full((batch,), 55.0))


def rendered_depth(rendering: world.Rendering, scenes: Sequence[world.Scene]) -> MetricDepth:
    """The depth of the scenes' rendering, at full confidence."""
    fov = torch.tensor([scene.camera.fov_y_deg for scene in scenes])
    return MetricDepth(rendering.depth_m, torch.ones_like(rendering.depth_m), fov)


def scene_depth(scenes: Sequence[world.Scene], image_size: int) -> MetricDepth:
    """The scenes' true depth, at full confidence."""
    return rendered_depth(world.render(scenes, image_size, image_size), scenes)


Predictor = Callable[..., DepthPrediction]
"""(texts, their numbers, perhaps the sources that they edit) -> maps of the benchmark's size."""


class SystemSampler:
    """An exported system that draws and predicts for plain texts. ValueError for a foreign directory.

    `bfloat16` draws and predicts under autocast: 2.7 times faster on a CPU with AVX-512, images within 0.002 and
    depth within 0.2% on average. `image_size`: pixels a side, by default the weights' own. `depth_steps` and
    `depth_guidance` are of sampled depths, by default the nodes'.
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
        """One pass of the MLLM; `sources` (B, 3, S, S) in [0, 1] are what the texts edit."""
        ids, mask = self.system.base.tokens.batch(texts, sources is not None)
        return self.system.base.encode(ids, mask, None)

    def noise(self, numbers: Sequence[int], seed: int, image_size: int | None = None) -> torch.Tensor:
        """(B, C, h, w) of a latent: the same for the same prompt number in every row of a table."""
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

    def _inputs(self, texts: Sequence[str], sources: torch.Tensor | None) -> ExpertInputs:
        size = self.image_size if sources is None else sources.shape[-1]
        return self.system.inputs(self.encode(texts, sources), size, size, sources)

    @torch.no_grad()
    def predict(self, texts: Sequence[str], sources: torch.Tensor | None = None) -> DepthPrediction:
        """(B, S, S) maps of the images that the texts describe, or that edit `sources` (B, 3, S, S): the mean."""
        inputs = self._inputs(texts, sources)
        with self._precision():
            return self.system.mean_depth(inputs)

    @torch.no_grad()
    def sample(
        self, texts: Sequence[str], numbers: Sequence[int], seed: int, sources: torch.Tensor | None = None
    ) -> DepthPrediction:
        """The same of one scene that fits each text, always the same for a prompt's number; needs a depth flow."""
        inputs = self._inputs(texts, sources)
        shape = self.system.predictor.noise_shape(1, inputs.height, inputs.width)
        noise = torch.cat([draw_noise(shape, seed * NOISE_SEED_STRIDE + number) for number in numbers])
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
        """ "mean", and "sampled" where it has a depth flow: what the benchmarks of its depth compare."""
        found: dict[str, Predictor] = {"mean": lambda texts, numbers, sources=None: self.predict(texts, sources)}
        if self.samples_depth:
            found["sampled"] = lambda texts, numbers, sources=None: self.sample(texts, numbers, seed, sources)
        return found

    @property
    def samples_depth(self) -> bool:
        """Whether its scenes can be drawn from noise, as the nodes do by default."""
        return self.system.predictor.depth_flow is not None

    @property
    def reads_depth(self) -> bool:
        """Whether its adapter was trained: a base and the data-only control draw without depth."""
        return bool(self.system.adapter.out.weight.count_nonzero())

    def scaffold(
        self, texts: Sequence[str], numbers: Sequence[int], seed: int, sources: torch.Tensor | None = None
    ) -> MetricDepth:
        """The depth that the nodes give by default: a sampled scene, or the mean where only that was trained."""
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
        """Images (B, 3, S, S) in [0, 1]; `sources`, of the same size, are what the texts edit."""
        prompt, empty = self.encode(texts, sources), self.encode([""] * len(texts), sources)
        reference = None if sources is None else self._latents(sources)
        with self._precision():
            features = self.system.features(depth, noise)
            return self.system.draw(prompt, empty, features, noise, self.image_sampling, reference)

    def _precision(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16)

"""The Mini's autoencoder and its stage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sf_model.models.autoencoder import DOWNSCALE, Autoencoder, AutoencoderConfig
from sf_model.training.bases.mini import MiniBase
from sf_model.training.bases.prompts import PromptTokens
from sf_model.training.optimiser import trainable_parameters
from sf_model.training.stages.autoencoder import CROPS, crops
from tests.unit.mini_training import DUMMY, FREE, build_stage, mini_settings, world_batches

SMALL = AutoencoderConfig(4, 1.0, encoder_channels=(8, 16), decoder_channels=(16, 24), image_channels=8)


@torch.no_grad()
def test_a_cell_is_eight_pixels_wide_and_sees_little_else() -> None:
    """Of any sides that are multiples of 8. What is far away changes a cell only through the norms."""
    torch.manual_seed(0)
    network = Autoencoder(SMALL)
    for height, width in ((64, 96), (8, 8)):
        latent = network.encode(torch.randn(2, 3, height, width))
        assert latent.shape == (2, 4, height // DOWNSCALE, width // DOWNSCALE)
        assert network.decode(latent).shape == (2, 3, height, width)


@torch.no_grad()
def test_the_stated_deviation_divides_the_latents_alone() -> None:
    torch.manual_seed(0)
    network = Autoencoder(SMALL)
    image = torch.randn(1, 3, 16, 16)
    latent, decoded = network.encode(image), network.decode(network.encode(image))
    network.config = replace(SMALL, latent_std=2.5)
    torch.testing.assert_close(network.encode(image), latent / 2.5)
    torch.testing.assert_close(network.decode(network.encode(image)), decoded)


def test_the_shipped_sizes_fit_into_six_megabytes() -> None:
    config = mini_settings().system.autoencoder
    network = Autoencoder(config, device="meta")
    assert 2 * sum(value.numel() for value in network.parameters()) < 6e6
    assert config.latent_channels == mini_settings().system.transformer.in_channels


def test_crops_are_parts_of_their_pictures_and_the_first_are_halves() -> None:
    """Every pixel of these pictures is another number."""
    images = torch.arange(2 * 3 * 16 * 16, dtype=torch.float32).view(2, 3, 16, 16)
    seeds = torch.tensor([5, 9])
    cut = crops(images, seeds)
    assert cut.shape == (2 * (1 + CROPS), 3, 8, 8) and torch.equal(cut, crops(images, seeds))
    torch.testing.assert_close(cut[:2], torch.nn.functional.avg_pool2d(images, 2))
    starts = set()
    for place, crop in enumerate(cut[2:]):
        image = images[place % 2]
        y, x = divmod(int(crop[0, 0, 0] - image[0, 0, 0]), 16)
        assert torch.equal(crop, image[:, y : y + 8, x : x + 8])
        starts.add((y, x))
    assert len(starts) > 2
    assert not torch.equal(cut, crops(images, torch.tensor([6, 9])))


def test_pictures_come_back_after_a_short_training(tokenizer_dir: Path, tokens: PromptTokens) -> None:
    """Four pictures, 60 steps: 3 dB more than at the start, and the sheet says so."""
    stage = build_stage("autoencoder", tokenizer_dir)
    batch = world_batches(tokens, FREE)[0][0]
    before = stage.eval()(batch).metrics["psnr"]
    stage.train()
    optimizer = torch.optim.AdamW(trainable_parameters(stage).values(), lr=5e-3)
    for step in range(60):
        optimizer.zero_grad()
        # Other crops in every step.
        losses = stage({**batch, "noise_seed": batch["noise_seed"] + step})
        losses["loss"].backward()
        optimizer.step()
    assert set(losses) == {"loss", "pixels", "gradients", "kl", "latent_std"}
    with torch.no_grad():
        sheet = stage.eval()(batch)
    assert sheet.metrics["psnr"] > before + 3
    assert sheet.metrics["latent_std"] == pytest.approx(losses["latent_std"].item(), rel=0.5)
    assert [column.shape for column in sheet.columns] == [batch["rgb"].shape] * 2


@torch.no_grad()
def test_the_base_encodes_with_it(tokenizer_dir: Path) -> None:
    base = MiniBase(DUMMY, tokenizer_dir, 0)
    image = torch.rand(1, 3, 32, 32)
    latent = base.encode_image(image)
    torch.testing.assert_close(latent, base.vae.encode(image * 2 - 1))
    decoded = base.decode_latent(latent)
    assert decoded.shape == image.shape and decoded.min() >= 0 and decoded.max() <= 1
    pixels = MiniBase(replace(DUMMY, autoencoder=None), tokenizer_dir, 0)
    torch.testing.assert_close(pixels.decode_latent(pixels.encode_image(image)), image)

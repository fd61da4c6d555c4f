"""A node that samples tiles of an image as upscalers do: it makes the latents itself and tells nothing of them."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.v0_0_2 import io

from nodes import common_ksampler


class ProbeTileSampler(io.ComfyNode):
    """Samples the four quarters of an image, each in a run of its own, and puts them together."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            "ProbeTileSampler",
            category="probe",
            inputs=[
                io.Model.Input("model"),
                io.Image.Input("image"),
                io.Vae.Input("vae"),
                io.Conditioning.Input("positive"),
                io.Conditioning.Input("negative"),
                io.Boolean.Input("tells", default=False),
            ],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def execute(
        cls, model: Any, image: torch.Tensor, vae: Any, positive: Any, negative: Any, tells: bool
    ) -> io.NodeOutput:
        _, height, width, _ = image.shape
        rows = []
        for top in (0, height // 2):
            tiles = []
            for left in (0, width // 2):
                tile = vae.encode(image[:, top : top + height // 2, left : left + width // 2])
                patched = model.clone()
                if tells:
                    options = patched.model_options["transformer_options"]
                    options["spatialfusion_crop"] = (left / width, top / height, 0.5, 0.5)
                (latent,) = common_ksampler(
                    patched, 7, 2, 1.0, "euler", "simple", positive, negative, {"samples": tile}, denoise=0.5
                )
                tiles.append(latent["samples"])
            rows.append(torch.cat(tiles, dim=-1))
        return io.NodeOutput({"samples": torch.cat(rows, dim=-2)})


NODES = [ProbeTileSampler]

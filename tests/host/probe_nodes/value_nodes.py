"""Values of every kind behind outputs of any type, to be linked where a widget or another type is expected."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from comfy_api.v0_0_2 import Types, io

CATEGORY = "SpatialFusion tests"


class ProbeValue(io.ComfyNode):
    """The value of a JSON text. The host does not compare it with the input that it is linked to."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [io.String.Input("text")]
        return io.Schema("ProbeValue", category=CATEGORY, inputs=inputs, outputs=[io.AnyType.Output()])

    @classmethod
    def execute(cls, text: str) -> io.NodeOutput:
        value: Any = json.loads(text)
        return io.NodeOutput(value)


# A tensor by its shape and type; None is no tensor at all.
TENSORS: dict[str, Callable[[], Any]] = {
    "number": lambda: torch.tensor(1.0),
    "empty": lambda: torch.empty(0),
    "vector": lambda: torch.rand(8),
    "8x8": lambda: torch.rand(8, 8),
    "1x8x8": lambda: torch.rand(1, 8, 8),
    "3x8x8": lambda: torch.rand(3, 8, 8),
    "1x1x8x8": lambda: torch.rand(1, 1, 8, 8),
    "1x4x9": lambda: torch.rand(1, 4, 9),
    "1x8x8x3": lambda: torch.rand(1, 8, 8, 3),
    "2x8x8x3": lambda: torch.rand(2, 8, 8, 3),
    "1x8x8x1": lambda: torch.rand(1, 8, 8, 1),
    "1x8x8x2": lambda: torch.rand(1, 8, 8, 2),
    "1x8x8x4": lambda: torch.rand(1, 8, 8, 4),
    "1x0x8x3": lambda: torch.rand(1, 0, 8, 3),
    "0x8x8x3": lambda: torch.rand(0, 8, 8, 3),
    "1x1x1x3": lambda: torch.rand(1, 1, 1, 3),
    "1x3x3": lambda: torch.eye(3).unsqueeze(0),
    "zero matrix": lambda: torch.zeros(1, 3, 3),
    "negative": lambda: -torch.rand(1, 8, 8),
    "NaN": lambda: torch.full((1, 8, 8), torch.nan),
    "NaN image": lambda: torch.full((1, 8, 8, 3), torch.nan),
    "infinite": lambda: torch.full((1, 8, 8), torch.inf),
    "huge image": lambda: torch.full((1, 8, 8, 3), 1e30),
    "bool": lambda: torch.ones(1, 8, 8, dtype=torch.bool),
    "int": lambda: torch.ones(1, 8, 8, dtype=torch.int32),
    "uint8 image": lambda: torch.ones(1, 8, 8, 3, dtype=torch.uint8),
    "half image": lambda: torch.rand(1, 8, 8, 3).half(),
    "bfloat16": lambda: torch.rand(1, 8, 8).bfloat16() + 1,
    "double": lambda: torch.rand(1, 8, 8, dtype=torch.float64) + 1,
    "complex": lambda: torch.ones(1, 8, 8, dtype=torch.complex64),
    "strided": lambda: torch.rand(8, 8, 1).permute(2, 0, 1),
    "with gradient": lambda: torch.rand(1, 8, 8, requires_grad=True),
    "NumPy": lambda: np.ones((1, 8, 8), np.float32),
    "list": lambda: [torch.rand(1, 8, 8)],
    "text": lambda: "text",
    "None": lambda: None,
}
OTHERS: dict[str, Callable[[], Any]] = {
    "empty conditioning": list,
    "conditioning of text": lambda: [["a", {}]],
    "conditioning of one part": lambda: [[torch.rand(1, 4, 8)]],
    "latent without samples": dict,
    "latent of text": lambda: {"samples": "text"},
    "latent of a video": lambda: {"samples": torch.rand(1, 3, 4, 8, 8)},
    "flat latent": lambda: {"samples": torch.rand(1, 8, 8)},
    "latent with a text as mask": lambda: {"samples": torch.rand(1, 3, 64, 64), "noise_mask": "text"},
    "mesh of text": lambda: Types.MESH("text", "text"),
    "mesh of no faces": lambda: Types.MESH(torch.rand(1, 3, 3), torch.empty(1, 0, 3, dtype=torch.long)),
    "mesh of negative faces": lambda: Types.MESH(torch.rand(1, 3, 3), torch.tensor([[[0, 1, -5]]])),
    "mesh of NaN": lambda: Types.MESH(torch.full((1, 3, 3), torch.nan), torch.tensor([[[0, 1, 2]]])),
    "mesh of flat vertices": lambda: Types.MESH(torch.rand(3, 3), torch.tensor([[0, 1, 2]])),
    "a file that is not there": lambda: Types.File3D("/nowhere/at/all.glb"),
    "a type": lambda: int,
    "a function": lambda: len,
    "an object": object,
    "a set": lambda: {1, 2},
    "a tuple of objects": lambda: (object(),),
    "a large number": lambda: 10**400,
    "bytes": lambda: b"bytes",
}
PARTS = ["depth", "mask", "intrinsics", "points", "confidence", "image", "sky", "mode", "normal"]


class ProbeHostile(io.ComfyNode):
    """A value that hardly anything takes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [io.Combo.Input("kind", options=[*TENSORS, *OTHERS])]
        return io.Schema("ProbeHostile", category=CATEGORY, inputs=inputs, outputs=[io.AnyType.Output()])

    @classmethod
    def execute(cls, kind: str) -> io.NodeOutput:
        return io.NodeOutput((TENSORS | OTHERS)[kind]())


class ProbeHostileGeometry(io.ComfyNode):
    """A plane of 8 x 8 pixels with one part that is something else, or missing."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [
            io.Combo.Input("part", options=PARTS),
            io.Combo.Input("kind", options=[*TENSORS, "missing"]),
        ]
        outputs = [io.Custom("MOGE_GEOMETRY").Output()]
        return io.Schema("ProbeHostileGeometry", category=CATEGORY, inputs=inputs, outputs=outputs)

    @classmethod
    def execute(cls, part: str, kind: str) -> io.NodeOutput:
        focal = torch.tensor([[0.5, 0, 0.5], [0, 0.5, 0.5], [0, 0, 1]])
        geometry: dict[str, Any] = {
            "depth": torch.linspace(2, 6, 8).expand(1, 8, 8).clone(),
            "mask": torch.ones(1, 8, 8, dtype=torch.bool),
            "intrinsics": focal.unsqueeze(0),
            "image": torch.zeros(1, 8, 8, 3),
        }
        geometry.pop(part, None)
        if kind != "missing":
            geometry[part] = TENSORS[kind]()
        return io.NodeOutput(geometry)


NODES: list[type[io.ComfyNode]] = [ProbeValue, ProbeHostile, ProbeHostileGeometry]

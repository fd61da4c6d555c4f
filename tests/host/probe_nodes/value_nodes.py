"""Values of every kind behind one output of any type, to be linked where a widget or another type is expected."""

from __future__ import annotations

import json
from typing import Any

from comfy_api.v0_0_2 import io

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


NODES: list[type[io.ComfyNode]] = [ProbeValue]

"""Meshes, 3D files and cameras as the host's nodes give them; some of its own makers need weights or a browser."""

from __future__ import annotations

import io as streams
import json
import sys

import folder_paths
import torch
from comfy_api.v0_0_2 import Types, io

CATEGORY = "SpatialFusion tests"
# A pyramid of 2 x 3 x 4 m (x, y, z), whose flat front is at z = +2.
VERTICES = torch.tensor([[-1.0, 0, 2], [1, 0, 2], [1, 3, 2], [-1, 3, 2], [0, 1.5, -2]])
FACES = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 4], [3, 2, 4], [2, 1, 4], [1, 0, 4]])
ENDLESS_FACES = 100_000


def _batch(vertices: torch.Tensor, faces: torch.Tensor) -> Types.MESH:
    return Types.MESH(vertices.unsqueeze(0), faces.unsqueeze(0))


def _padded() -> Types.MESH:
    """The pyramid and, smaller, its front alone; the newest host then says how much of each is real."""
    vertices = torch.stack([VERTICES, torch.cat([VERTICES[:4], torch.zeros(1, 3)])])
    faces = torch.stack([FACES, torch.cat([FACES[:2], torch.zeros(4, 3, dtype=torch.long)])])
    mesh = Types.MESH(vertices, faces)
    mesh.vertex_counts, mesh.face_counts = torch.tensor([5, 4]), torch.tensor([6, 2])
    return mesh


def _endless() -> Types.MESH:
    """Faces that each cover the whole view: drawing them takes far longer than any test waits."""
    corners = torch.tensor([[-1e3, -1e3, 0], [1e3, -1e3, 0], [0, 2e3, 0]]).repeat(ENDLESS_FACES, 1)
    return _batch(corners, torch.arange(3 * ENDLESS_FACES).view(-1, 3))


MESHES = {
    "pyramid": lambda: _batch(VERTICES, FACES),
    "padded batch": _padded,
    "endless": _endless,
    "no faces": lambda: _batch(VERTICES, FACES[:0]),
    "NaN": lambda: _batch(VERTICES.sqrt(), FACES),
    "out of range": lambda: _batch(VERTICES, FACES + 3),
    "flat": lambda: _batch(VERTICES * torch.tensor([1, 0, 1]), FACES),
    "no batch": lambda: Types.MESH(VERTICES, FACES),
}


class ProbeMesh(io.ComfyNode):
    """A MESH, good or broken."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            "ProbeMesh",
            category=CATEGORY,
            inputs=[io.Combo.Input("kind", options=list(MESHES))],
            outputs=[io.Mesh.Output()],
        )

    @classmethod
    def execute(cls, kind: str) -> io.NodeOutput:
        return io.NodeOutput(MESHES[kind]())


class ProbeFile3D(io.ComfyNode):
    """A file of the input folder as Load 3D gives it, or its contents in memory."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            "ProbeFile3D",
            category=CATEGORY,
            inputs=[io.String.Input("name"), io.Boolean.Input("in_memory", default=False)],
            outputs=[io.File3DAny.Output()],
        )

    @classmethod
    def execute(cls, name: str, in_memory: bool) -> io.NodeOutput:
        path = folder_paths.get_annotated_filepath(name)
        file = Types.File3D(path)
        if in_memory:
            file = Types.File3D(streams.BytesIO(file.get_bytes()), file.format)
        return io.NodeOutput(file)


class ProbeCamera(io.ComfyNode):
    """A LOAD3D_CAMERA from its JSON: what the 3D viewer in the browser sends."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            "ProbeCamera",
            category=CATEGORY,
            inputs=[io.String.Input("text")],
            outputs=[io.Load3DCamera.Output()],
        )

    @classmethod
    def execute(cls, text: str) -> io.NodeOutput:
        return io.NodeOutput(json.loads(text))


class ProbeLayout(io.ComfyNode):
    """A SPATIALFUSION_LAYOUT from its text, as the pack reads it. Other JSON and other text are passed on as such."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            "ProbeLayout",
            category=CATEGORY,
            inputs=[io.String.Input("text")],
            outputs=[io.Custom("SPATIALFUSION_LAYOUT").Output()],
        )

    @classmethod
    def execute(cls, text: str) -> io.NodeOutput:
        if text.startswith("["):
            return io.NodeOutput(json.loads(text))
        (reading,) = (module for name, module in sys.modules.items() if name.endswith("scaffold.layout_reading"))
        return io.NodeOutput(reading.read_layout(text).layout if text.startswith("{") else text)


NODES = [ProbeMesh, ProbeFile3D, ProbeCamera, ProbeLayout]

"""Random graphs of the pack's nodes with hostile values, and what a graph may answer.

A graph of a seed is always the same. It has one node of the pack that is looked at, with valid and hostile values on
its widgets and sockets. Its sockets come from probes, from the host's nodes or from other nodes of the pack.

A graph may succeed, be refused before it runs, or end in a ValueError that the pack itself raises, whose message says
what to do before it says what is wrong. Whatever else happens is a fault.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.host import mini_checkpoints
from tests.host.mini_graphs import BUILT_IN, digest, node
from tests.host.server import ComfyServer, Graph, PromptError
from tests.pack_copies import declared_nodes

# How many of a node's inputs get a hostile value, in a graph.
HOSTILE_SHARES = (0.03, 0.1, 0.25)
MAX_CHAIN = 2
# Values of a JSON text, linked or typed where a widget expects something else.
HOSTILE_VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    0.5,
    -0.5,
    1e-30,
    1e30,
    2**31,
    2**63,
    -(2**63),
    10**30,
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    "text",
    "0",
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\Windows\\win.ini",
    "a\0b",
    "a" * 300,
    "%year%/../x",
    "\ud800",
    "\u202e\U0001f600",
    [],
    [1],
    ["a", 0],
    {},
    {"a": 1},
    {"position": None},
    [{}],
]
# Small enough that a graph takes no time; the others take what their schema allows.
SMALL_NUMBERS = {"width": (16, 96), "height": (16, 96), "steps": (1, 2), "batch_index": (0, 1), "decimation": (1, 3)}


# What the host's savers say of a prefix outside of the output folder.
HOSTS_OWN = re.compile(r"\**\s*ERROR: Saving image outside the output folder is not allowed")


@dataclass(frozen=True)
class Files:
    """Names of the input folder that nodes can load."""

    depth: str
    mesh: str


def write_files(server: ComfyServer) -> Files:
    """A depth of 32 x 48 pixels and a triangle, in the server's input folder."""
    folder = server.base / "input"
    np.save(folder / "fuzz.npy", np.linspace(2, 6, 32 * 48, dtype=np.float32).reshape(32, 48))
    (folder / "fuzz.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", encoding="utf-8")
    return Files("fuzz.npy", "fuzz.obj")


class GraphMaker:
    """Makes a graph of each seed from what the server says of its nodes."""

    def __init__(self, server: ComfyServer, repository: Path) -> None:
        self._schemas = {name: server.object_info(name) for name in sorted(declared_nodes(repository))}
        self._files = write_files(server)
        # The kinds of hostile values that the probe nodes know.
        self._kinds = _options(server, "ProbeHostile", "kind")
        self._parts = _options(server, "ProbeHostileGeometry", "part")
        self._part_kinds = _options(server, "ProbeHostileGeometry", "kind")
        # Nodes of the pack by the types that they make.
        self._makers: dict[str, list[tuple[str, int]]] = {}
        for name, schema in self._schemas.items():
            for place, kind in enumerate(schema["output"]):
                for part in str(kind).split(","):
                    self._makers.setdefault(part, []).append((name, place))

    def make(self, seed: int) -> tuple[str, Graph]:
        """(the node's type, the graph)."""
        draw = random.Random(seed)
        graph: Graph = {}
        name = draw.choice(list(self._schemas))
        self._hostile_share = draw.choice(HOSTILE_SHARES)
        self._add(graph, draw, name, "looked at", self._hostile_share, MAX_CHAIN)
        for place in range(len(self._schemas[name]["output"])):
            graph[f"digest {place}"] = digest(["looked at", place])
        return name, graph

    def _add(self, graph: Graph, draw: random.Random, name: str, key: str, hostile: float, depth: int) -> None:
        inputs: dict[str, Any] = {}
        for group in ("required", "optional"):
            for entry, (kind, *options) in self._schemas[name]["input"].get(group, {}).items():
                if group == "optional" and draw.random() < 0.5:
                    continue
                if draw.random() < hostile:
                    self._hostile(graph, draw, inputs, entry, kind)
                else:
                    inputs[entry] = self._valid(graph, draw, entry, kind, options[0] if options else {}, depth)
        graph[key] = node(name, **inputs)

    def _hostile(self, graph: Graph, draw: random.Random, inputs: dict[str, Any], entry: str, kind: Any) -> None:
        choice = draw.random()
        if choice < 0.1:
            return  # missing
        if choice < 0.3:
            inputs[entry] = draw.choice(HOSTILE_VALUES)
            return
        if "GEOMETRY" in str(kind) and choice < 0.8:
            made = node("ProbeHostileGeometry", part=draw.choice(self._parts), kind=draw.choice(self._part_kinds))
        elif choice < 0.65:
            made = node("ProbeHostile", kind=draw.choice(self._kinds))
        else:
            made = node("ProbeValue", text=json.dumps(draw.choice(HOSTILE_VALUES)))
        inputs[entry] = [_put(graph, made), 0]

    def _valid(self, graph: Graph, draw: random.Random, entry: str, kind: Any, options: dict, depth: int) -> Any:
        if isinstance(kind, list) or kind == "COMBO":
            return self._choice(draw, entry, kind if isinstance(kind, list) else options["options"])
        if kind == "INT":
            low, high = SMALL_NUMBERS.get(entry, (options["min"], min(options["max"], 2**53)))
            return draw.randint(low, high)
        if kind == "FLOAT":
            span = options["max"] - options["min"]
            return draw.choice([options["default"], options["min"] + draw.random() * span, options["max"]])
        if kind == "BOOLEAN":
            return draw.random() < 0.5
        if kind == "STRING":
            return draw.choice(["fuzz/depth", "a red car, 2 metres away"])
        return self._socket(graph, draw, str(kind).split(","), depth)

    def _choice(self, draw: random.Random, entry: str, options: list[str]) -> str:
        if entry == "file":
            return self._files.depth
        if entry == "model_file":
            return draw.choice(["none", self._files.mesh])
        if entry == "checkpoint":
            return draw.choice([mini_checkpoints.TOKEN, mini_checkpoints.LATENT, mini_checkpoints.MEAN_ONLY])
        return draw.choice(options)

    def _socket(self, graph: Graph, draw: random.Random, kinds: list[str], depth: int) -> list[Any]:
        """A link to something of one of these types."""
        makers = [maker for kind in kinds for maker in self._makers.get(kind, [])]
        cheap = _stock(graph, draw, kinds)
        if makers and depth and (cheap is None or draw.random() < 0.4):
            name, place = draw.choice(makers)
            key = f"{name} {len(graph)}"
            graph[key] = {}  # its number is taken
            self._add(graph, draw, name, key, self._hostile_share / 4, depth - 1)
            return [key, place]
        # A type of the pack's own, at the end of a chain.
        return cheap or [_put(graph, node("ProbeHostile", kind="an object")), 0]


def _options(server: ComfyServer, name: str, entry: str) -> list[str]:
    kind, *options = server.object_info(name)["input"]["required"][entry]
    return kind if isinstance(kind, list) else options[0]["options"]


def _put(graph: Graph, made: dict[str, Any]) -> str:
    key = f"{made['class_type']} {len(graph)}"
    graph[key] = made
    return key


def _stock(graph: Graph, draw: random.Random, kinds: list[str]) -> list[Any] | None:
    """A link to a probe or to a node of the host that makes one of these types."""
    if {"MODEL", "CLIP", "VAE"} & set(kinds):
        graph["base"] = node("SpatialFusionMiniLoader")
        return ["base", ["MODEL", "CLIP", "VAE"].index(kinds[0])]
    if "SPATIALFUSION" in kinds:
        graph["base"] = node("SpatialFusionMiniLoader")
        checkpoint = draw.choice(
            [mini_checkpoints.TOKEN, mini_checkpoints.PATCHES, mini_checkpoints.MEAN_ONLY, BUILT_IN]
        )
        return [_put(graph, node("SpatialFusionLoader", clip=["base", 1], checkpoint=checkpoint)), 0]
    if "CONDITIONING" in kinds:
        graph["base"] = node("SpatialFusionMiniLoader")
        return [_put(graph, node("CLIPTextEncode", clip=["base", 1], text=draw.choice(["", "a house"]))), 0]
    side, batch = draw.choice([16, 64, 64, 80]), draw.choice([1, 1, 2, 3])
    size = {"width": draw.choice([side, side, 48]), "height": side}
    makers = {
        "IMAGE": lambda: node("EmptyImage", **size, batch_size=batch, color=draw.choice([0, 0x808080, 0xFFFFFF])),
        "MASK": lambda: node("SolidMask", **size, value=draw.choice([0.0, 0.5, 1.0])),
        "LATENT": lambda: node("EmptyChromaRadianceLatentImage", **size, batch_size=batch),
        "MOGE_GEOMETRY": lambda: node(
            "ProbeGeometry", kind=draw.choice(["moge", "da3", "infinite"]), **size, batch=batch
        ),
        "MESH": lambda: node("ProbeMesh", kind=draw.choice(["pyramid", "padded batch", "flat", "no faces"])),
        "LOAD3D_CAMERA": lambda: node("ProbeCamera", text=json.dumps(draw.choice(CAMERAS))),
        "SPATIALFUSION_OBJECTS": lambda: node("SpatialFusionScaffoldObject", **_BOX),
        "CLIP_VISION": lambda: node("ProbeClipVision", hidden_size=32, kind="dinov2"),
    }
    for kind in kinds:
        if kind in makers:
            return [_put(graph, makers[kind]()), 0]
    return None


_BOX = {"shape": "box", "width_m": 1.0, "height_m": 1.0, "length_m": 1.0, "x_m": 0.0, "y_m": 0.0, "z_m": 4.0}
_BOX |= {"heading_deg": 0.0, "pitch_deg": 0.0, "roll_deg": 0.0}
_CAMERA = {"position": {"x": 0, "y": 2, "z": 4}, "target": {"x": 0, "y": 0, "z": 0}, "zoom": 1}
CAMERAS: list[Any] = [
    _CAMERA,
    [_CAMERA, _CAMERA | {"fov": 40}],
    _CAMERA | {"zoom": 0},
    _CAMERA | {"position": {"x": 1e300, "y": 0, "z": 0}},
    _CAMERA | {"quaternion": {"x": 0, "y": 0, "z": 0, "w": 0}},
]


@dataclass
class Answers:
    """How graphs ended, and the faults by seed."""

    counts: Counter[str]
    faults: dict[int, str]


def run_seeds(server: ComfyServer, maker: GraphMaker, seeds: Iterable[int]) -> Answers:
    """Run the graph of each seed, in their order. Raises where the server dies or does not answer."""
    answers = Answers(Counter(), {})
    queued: list[tuple[int, str, str]] = []
    for seed in seeds:
        name, graph = maker.make(seed)
        try:
            queued.append((seed, name, server.queue(graph)))
        except PromptError:
            answers.counts["refused"] += 1
    for seed, name, prompt_id in queued:
        entry = server.wait(prompt_id)
        if entry["status"]["status_str"] == "success":
            answers.counts["success"] += 1
        elif (fault := fault_of(entry)) is None:
            answers.counts["ValueError"] += 1
        else:
            answers.faults[seed] = f"{name} of seed {seed}: {fault}"
    return answers


def fault_of(entry: dict[str, Any]) -> str | None:
    """What is wrong with the error that ended a run, by the host's history, or None."""
    (error,) = [data for name, data in entry["status"]["messages"] if name == "execution_error"]
    if error["node_type"].startswith("Probe"):
        return None  # made by a probe: a value that cannot even be made or shown
    if HOSTS_OWN.match(error["exception_message"]):
        return None
    said = f"{error['node_type']}: {error['exception_type']}: {error['exception_message'].strip()}"
    files = re.findall(r'File "(.*?)", line', "".join(error["traceback"]))
    is_ours = bool(files) and re.search(
        r"/(nodes|sf_model)/\w+/\w+\.py$|/sf_model/\w+\.py$", files[-1].replace("\\", "/")
    )
    if not is_ours:
        return f"{said}\n  in {files[-1] if files else 'no file'}"
    if not re.fullmatch(r"ValueError|.*CheckpointError", error["exception_type"]):
        return said
    # A remedy begins with what to do, and then says why.
    if not re.match(r"(.*/)?[^:]*:", error["exception_message"]):
        return f"{said}\n  without a remedy"
    return None

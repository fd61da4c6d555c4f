"""Blueprints, which ComfyUI serves from `subgraphs/`: what the templates `plan_*` do, as one node each.

Two of a template: its subgraph, which draws an image from any depth in metres, and the whole way from words to image.
A blueprint is a workflow of one subgraph node. What it holds is the template's, so that both always agree.
"""

from __future__ import annotations

import copy
import json
import uuid
from pathlib import Path
from typing import Any

from .nodes import PREFIX

# The ids that the front end gives to the two ends of a subgraph.
INPUTS, OUTPUTS = -10, -20
WHOLE = "Planned Scene to Image"
LINK_KEYS = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
# Of the whole way: (input, the nodes and their inputs that it sets, its label). The first one's widget is shown.
PLAN, COMPOSE = f"{PREFIX}PlanLayout", f"{PREFIX}ComposeDepth"
SHARED_INPUTS = (
    ("width", ((COMPOSE, "width"), (PLAN, "width")), None),
    ("height", ((COMPOSE, "height"), (PLAN, "height")), None),
    ("plan_seed", ((PLAN, "seed"),), "plan seed"),
    ("clip_name", (("CLIPLoader", "clip_name"),), "planner"),
)
LEFT_OUT = {"MarkdownNote", "PrimitiveStringMultiline", "SaveImage"}
Json = dict[str, Any]


def blueprints(root: Path) -> dict[Path, str]:
    """{file: its text}."""
    result = {}
    for file in sorted((root / "workflows").glob("plan_*.json")):
        template = json.loads(file.read_text(encoding="utf-8"))
        for blueprint in (block(template), whole(template)):
            name = blueprint["definitions"]["subgraphs"][0]["name"]
            result[root / "subgraphs" / f"{name}.json"] = json.dumps(blueprint, indent=2) + "\n"
    return result


def block(template: Json) -> Json:
    """The template's subgraph as a blueprint."""
    (subgraph,) = template["definitions"]["subgraphs"]
    (node,) = [node for node in template["nodes"] if node["type"] == subgraph["id"]]
    return _workflow(_alone(node), [subgraph])


def whole(template: Json) -> Json:
    """All that the template does between its prompt and Save Image, as a blueprint."""
    (drawing,) = template["definitions"]["subgraphs"]
    name = f"{WHOLE} {drawing['name'][drawing['name'].index('(') :]}"
    nodes = {node["id"]: copy.deepcopy(node) for node in template["nodes"] if node["type"] not in LEFT_OUT}
    way = _Way(name, nodes)
    for number, *link in template["links"]:
        way.keep(number, *link)
    for shared in SHARED_INPUTS:
        way.share(*shared)
    (drawer,) = [node for node in nodes.values() if node["type"] == drawing["id"]]
    way.show(drawer)
    (composer,) = way.of_type(COMPOSE)
    way.give(composer, 0, "geometry")
    description = f"Plans the scene that a prompt describes, in metres. Then draws it. {drawing['description']}"
    subgraph = way.definition(drawing | {"description": description})
    return _workflow(way.node(), [subgraph, drawing])


class _Way:
    """Collects what a subgraph of these nodes (by id) takes, gives and shows."""

    def __init__(self, name: str, nodes: dict[int, Json]) -> None:
        self.name = name
        self.nodes = nodes
        self.links: list[Json] = []
        self.inputs: list[Json] = []
        self.outputs: list[Json] = []
        self.widgets: list[list[str]] = []
        for node in nodes.values():
            for slot in node["inputs"]:
                slot["link"] = None
            for output in node["outputs"]:
                output["links"] = None

    def keep(self, number: int, origin: int, origin_slot: int, target: int, target_slot: int, kind: str) -> None:
        """A link of the template. From a node that is left out it becomes an input, to one an output."""
        if origin in self.nodes and target in self.nodes:
            self._link(origin, origin_slot, target, target_slot, kind)
        elif target in self.nodes:
            self._take("prompt", "STRING", [(self.nodes[target], target_slot)])
        elif origin in self.nodes:
            self.give(self.nodes[origin], origin_slot, kind)

    def share(self, name: str, targets: tuple[tuple[str, str], ...], label: str | None) -> None:
        """An input that sets widgets of several nodes."""
        found = []
        for kind, input_name in targets:
            (node,) = self.of_type(kind)
            found.append((node, [slot["name"] for slot in node["inputs"]].index(input_name)))
        node, slot = found[0]
        self._take(name, node["inputs"][slot]["type"], found, label)

    def show(self, drawer: Json) -> None:
        """What the drawing subgraph shows is shown, but for the prompt, which has an input."""
        hidden = {slot["name"] for slot in drawer["inputs"] if slot["link"] is not None}
        by_widget = {tuple(pair): pair for pair in drawer["properties"]["proxyWidgets"]}
        named = [slot["name"] for slot in drawer["inputs"] if "widget" in slot]
        rest = [widget for _, widget in by_widget][len(named) :]
        self.widgets += [[str(drawer["id"]), name] for name in [*named, *rest] if name not in hidden]

    def give(self, node: Json, slot: int, name: str) -> None:
        """An output of the subgraph."""
        kind = node["outputs"][slot]["type"]
        link = self._link(node["id"], slot, OUTPUTS, len(self.outputs), kind)
        self.outputs.append({"id": _id(self.name, "out", name), "name": name, "type": kind, "linkIds": [link]})

    def of_type(self, kind: str) -> list[Json]:
        return [node for node in self.nodes.values() if node["type"] == kind]

    def node(self) -> Json:
        """The subgraph's own node."""
        keys = ("name", "type", "label")
        inputs: list[Json] = [{key: slot[key] for key in keys if key in slot} for slot in self.inputs]
        for slot in inputs:
            slot |= {"widget": {"name": slot["name"]}, "link": None}
        return {
            "id": max(self.nodes) + 1,
            "type": _id(self.name),
            "pos": [0, 0],
            "size": [420, 520],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": inputs,
            "outputs": [{"name": slot["name"], "type": slot["type"], "links": []} for slot in self.outputs],
            "title": self.name,
            "properties": {"proxyWidgets": self.widgets},
            "widgets_values": [],
        }

    def definition(self, like: Json) -> Json:
        """The subgraph, with the description and category of `like`."""
        nodes = list(self.nodes.values())
        left, top = (min(node["pos"][axis] for node in nodes) for axis in (0, 1))
        right = max(node["pos"][0] + node["size"][0] for node in nodes)
        for index, slot in enumerate(self.inputs):
            slot["pos"] = [left - 100, top + 20 + 20 * index]
        for index, slot in enumerate(self.outputs):
            slot["pos"] = [right + 120, top + 20 + 20 * index]
        last = {"lastGroupId": 0, "lastNodeId": max(self.nodes), "lastLinkId": len(self.links), "lastRerouteId": 0}
        return like | {
            "id": _id(self.name),
            "state": last,
            "name": self.name,
            "inputNode": {"id": INPUTS, "bounding": [left - 200, top, 120, 40 + 20 * len(self.inputs)]},
            "outputNode": {"id": OUTPUTS, "bounding": [right + 100, top, 120, 40 + 20 * len(self.outputs)]},
            "inputs": self.inputs,
            "outputs": self.outputs,
            "nodes": nodes,
            "links": self.links,
        }

    def _take(self, name: str, kind: str, targets: list[tuple[Json, int]], label: str | None = None) -> None:
        known = [slot["name"] for slot in self.inputs]
        if name not in known:
            entry = {"id": _id(self.name, "in", name), "name": name, "type": kind, "linkIds": []}
            self.inputs.append(entry | ({"label": label} if label else {}))
            node, slot = targets[0]
            self.widgets.append([str(node["id"]), node["inputs"][slot]["name"]])
            known.append(name)
        at = known.index(name)
        for node, slot in targets:
            self.inputs[at]["linkIds"].append(self._link(INPUTS, at, node["id"], slot, node["inputs"][slot]["type"]))

    def _link(self, origin: int, origin_slot: int, target: int, target_slot: int, kind: str) -> int:
        number = len(self.links) + 1
        self.links.append(dict(zip(LINK_KEYS, (number, origin, origin_slot, target, target_slot, kind))))
        if target in self.nodes:
            self.nodes[target]["inputs"][target_slot]["link"] = number
        if origin in self.nodes:
            output = self.nodes[origin]["outputs"][origin_slot]
            output["links"] = [*(output["links"] or ()), number]
        return number


def _alone(node: Json) -> Json:
    """The node with nothing connected."""
    inputs = [slot | {"link": None} for slot in node["inputs"]]
    outputs = [slot | {"links": []} for slot in node["outputs"]]
    return node | {"pos": [0, 0], "order": 0, "inputs": inputs, "outputs": outputs}


def _workflow(node: Json, subgraphs: list[Json]) -> Json:
    return {
        "revision": 0,
        "last_node_id": node["id"],
        "last_link_id": 0,
        "nodes": [node],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": subgraphs},
        "extra": {},
    }


def _id(*parts: str) -> str:
    """The same for the same words, as the front end wants it."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(("spatialfusion", "blueprint", *parts))))

"""The node that the host is running now, in the prompt that it is running. Samplers may ask while they sample."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .graph import is_link

Inputs = dict[str, Any]


@dataclass(frozen=True)
class RunningNode:
    """A node of the prompt in progress."""

    node_id: str
    # The whole prompt in API form: {node id: {"class_type", "inputs"}}.
    prompt: dict[str, Any]

    @property
    def class_type(self) -> str:
        return str(self.prompt[self.node_id].get("class_type"))

    @property
    def inputs(self) -> Inputs:
        return self.prompt[self.node_id].get("inputs", {})

    def input_types(self) -> dict[str, Any]:
        """The types of its inputs by name: text, or a list of options. Empty where the class does not say."""
        import nodes  # the host's, imported only now: it imports the whole host

        node_class = nodes.NODE_CLASS_MAPPINGS.get(self.class_type)
        schema = node_class.INPUT_TYPES() if node_class is not None else {}
        groups = [schema.get(group) or {} for group in ("required", "optional")]
        return {name: spec[0] for group in groups for name, spec in group.items() if spec}

    def before(self, *input_names: str) -> Iterator[RunningNode]:
        """The nodes whose outputs are connected to some of its inputs."""
        for name in input_names:
            value = self.inputs.get(name)
            if is_link(value) and value[0] in self.prompt:
                yield RunningNode(value[0], self.prompt)

    def all_before(self, *input_names: str) -> dict[str, RunningNode]:
        """By id, every node that stands before some of its inputs, at any distance."""
        found: dict[str, RunningNode] = {}
        waiting = list(self.before(*input_names))
        while waiting:
            node = waiting.pop()
            if node.node_id not in found:
                found[node.node_id] = node
                waiting += node.before(*node.inputs)
        return found


def running_node() -> RunningNode | None:
    """None where the host runs no node of a prompt, or one that another node made during the run."""
    # Not imported here: tests sample without a server, and its import starts more than they need.
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    if server is None:
        return None
    from comfy_execution.utils import get_executing_context

    context = get_executing_context()
    if context is None:
        return None
    running, _ = server.prompt_queue.get_current_queue_volatile()
    prompts = [item[2] for item in running if item[1] == context.prompt_id]
    known = bool(prompts) and context.node_id in prompts[0]
    return RunningNode(context.node_id, prompts[0]) if known else None

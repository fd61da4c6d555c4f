"""What the prompt in progress says about the running node: which nodes stand before it, and what is set in them.

A node gets the prompt if its schema has `GRAPH` among its hidden inputs. In it, subgraphs and reroutes are resolved.
"""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

# Hidden inputs: what this module and the notices need.
GRAPH = (io.Hidden.unique_id, io.Hidden.dynprompt)
# {"class_type": its id, "inputs": {name: value, or [id of another node, number of its output]}}
GraphNode = dict[str, Any]


def nearest_before(node: type[io.ComfyNode], input_name: str, class_type: str) -> list[GraphNode]:
    """The nodes of one class before an input of the running node, without those that stand before one of them.

    Empty where there is none, or where the host does not tell.
    """
    hidden = getattr(node, "hidden", None)
    if hidden is None or hidden.dynprompt is None or hidden.unique_id is None:
        return []
    own = _node_of(hidden.dynprompt, hidden.unique_id)
    waiting = [] if own is None else [own.get("inputs", {}).get(input_name)]
    found: dict[str, GraphNode] = {}
    seen: set[str] = set()
    while waiting:
        value = waiting.pop()
        if not is_link(value) or value[0] in seen:
            continue
        seen.add(value[0])
        before = _node_of(hidden.dynprompt, value[0])
        if before is None:
            continue
        if before.get("class_type") == class_type:
            found[value[0]] = before
        else:
            waiting += before.get("inputs", {}).values()
    return list(found.values())


def is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def _node_of(dynprompt: Any, node_id: str) -> GraphNode | None:
    # A node that an extension made during the run may be gone from the prompt.
    return dynprompt.get_node(node_id) if dynprompt.has_node(node_id) else None

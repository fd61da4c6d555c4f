"""Looks at what a node is given before it runs: each value against the input of the schema that it is for.

The host compares only what is typed or chosen on a node. A link of the type `*`, as many extensions have, brings any
value, and so do nodes that give a broken value of the right type. Here they become a ValueError that names the input
and the remedy.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

from comfy_api.v0_0_2 import io

from .sockets import CHECKS
from .widgets import check_widget


def check_inputs(node: type[io.ComfyNode]) -> None:
    """From now on `execute` of this node gets only values that its schema describes.

    None for an optional input is as if nothing were connected.
    """
    run = node.execute.__func__
    signature = inspect.signature(run)

    @functools.wraps(run)
    def execute(cls: type[io.ComfyNode], *arguments: Any, **options: Any) -> io.NodeOutput:
        given = signature.bind(cls, *arguments, **options).arguments
        inputs = {entry.id: entry for entry in node.define_schema().inputs}
        values = {name: value for name, value in given.items() if name in inputs}
        return run(cls, **_checked(values, inputs))

    node.execute = classmethod(execute)


def _checked(values: dict[str, Any], inputs: dict[str, io.Input]) -> dict[str, Any]:
    """The values as their inputs describe them. ValueError for the first that is something else."""
    checked = {}
    for name, value in values.items():
        entry = inputs[name]
        if value is not None:
            checked[name] = _check(value, entry)
        elif not entry.optional:
            raise ValueError(f"connect {name} to a node that gives something: nothing came from the connected one")
    return checked


def _check(value: Any, entry: io.Input) -> Any:
    if isinstance(entry, io.WidgetInput):
        return check_widget(value, entry)
    for io_type in entry.get_io_type().split(","):
        if io_type in CHECKS:
            return CHECKS[io_type](value, entry.id)
    return value

"""A warning that the user sees in the log, on the node in the front end, and in the history of the run."""

from __future__ import annotations

import logging

from comfy_api.v0_0_2 import io


def warn(node: type[io.ComfyNode], message: str | None) -> dict[str, list[str]] | None:
    """Show a message on the running node, if there is one. The schema of the node must ask for Hidden.unique_id.

    Returns the `ui` value for the node's output, which brings the message into the history. None without a message.
    """
    if message is None:
        return None
    from server import PromptServer  # imported only now: tests run nodes without a server

    logging.warning("%s: %s", node.define_schema().display_name, message)
    server = getattr(PromptServer, "instance", None)
    if server is not None and node.hidden.unique_id is not None:
        server.send_progress_text(message, node.hidden.unique_id)
    return {"text": [message]}

"""What a node tells the user: in the log, on the node in the front end, and in the history of the run."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from comfy_api.v0_0_2 import io


@dataclass(frozen=True)
class Notice:
    """A message of a node. doubtful: the user should check something, so it is a warning in the log."""

    text: str
    doubtful: bool = True


def warn(node: type[io.ComfyNode], message: str | None) -> dict[str, list[str]] | None:
    """`show` of a message that is a warning, if there is one."""
    return show(node, None if message is None else Notice(message))


def show(node: type[io.ComfyNode], *notices: Notice | None) -> dict[str, list[str]] | None:
    """Show messages on the running node, if there are any. The schema of the node must ask for Hidden.unique_id.

    Returns the `ui` value for the node's output, which brings the messages into the history. None without any.
    """
    given = [notice for notice in notices if notice is not None]
    if not given:
        return None
    from server import PromptServer  # imported only now: tests run nodes without a server

    title = node.define_schema().display_name
    for notice in given:
        logging.log(logging.WARNING if notice.doubtful else logging.INFO, "%s: %s", title, notice.text)
    texts = [notice.text for notice in given]
    server = getattr(PromptServer, "instance", None)
    if server is not None and node.hidden.unique_id is not None:
        server.send_progress_text("\n".join(texts), node.hidden.unique_id)
    return {"text": texts}

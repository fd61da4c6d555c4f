"""Cancelling a run in the middle of a node's work, whatever the machine's speed."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import aiohttp

from tests.host.server import ComfyServer, Graph

STOP_WITHIN_S = 120.0


def cancel_at_first_progress(server: ComfyServer, graph: Graph, node_id: str) -> None:
    """Run a graph and interrupt it at the first progress message of the node. Raises what ended the run."""
    # In a thread of its own: while a browser of this session is open, this one has an event loop already.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, _cancel(server, graph, node_id)).result()


async def _cancel(server: ComfyServer, graph: Graph, node_id: str) -> None:
    # The server tells every client of a prompt that names no client.
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{server.url}/ws") as socket:
        run = asyncio.create_task(asyncio.to_thread(server.run, graph, STOP_WITHIN_S))
        await asyncio.wait_for(_first_progress(socket, node_id), STOP_WITHIN_S)
        await asyncio.to_thread(server.interrupt)
        await run


async def _first_progress(socket: aiohttp.ClientWebSocketResponse, node_id: str) -> None:
    """Read messages until one tells of the node's progress."""
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.TEXT:
            continue
        event = json.loads(message.data)
        if event["type"] == "progress" and event["data"]["node"] == node_id:
            return

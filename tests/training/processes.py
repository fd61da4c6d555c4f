"""Starts training commands in several processes of one gloo group, as torchrun does, from a server that has imported
all once."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

PRELOAD = ["sf_model.training.bases.commands", "sf_model.training.bases.trainer", "sf_model.training.bases.loading"]

SHARD = "SPATIALFUSION_TEST_SHARD"
SHARDED_BLOCKS = ("Lumina2TransformerBlock", "QwenImageTransformerBlock", "SpatialTransformerLayer")


def _prepare_shared(self: Any, stage: Any, optimizer: Any) -> tuple[Any, Any]:
    """What accelerate does for FSDP2, which it does on GPUs only: torch's own sharding, blocks first."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    for module in list(stage.modules()):
        if type(module).__name__ in SHARDED_BLOCKS:
            fully_shard(module, mesh=mesh)
    fully_shard(stage, mesh=mesh)
    parameters = list(stage.trainable_parameters().values())
    assert all(isinstance(parameter, DTensor) for parameter in parameters)
    optimizer.param_groups[0]["params"] = parameters
    return stage, optimizer


def _work(
    rank: int, world: int, port: int, environment: dict[str, str], calls: list[list[str]], out: Connection
) -> None:
    import torch

    from sf_model.training.bases import commands, trainer

    torch.set_num_threads(1)
    group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ.update({"ACCELERATE_USE_CPU": "true", **environment})
    if port:
        os.environ.update({"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in group.items()}})
    try:
        if SHARD in environment:
            trainer.BaseTrainer._prepare = _prepare_shared  # type: ignore[method-assign]
        for arguments in calls:
            commands.main(arguments)
        out.send("")
    except BaseException:
        out.send(traceback.format_exc())


@contextmanager
def _forkserver() -> Iterator[Any]:
    """A context whose processes find these tests: a ComfyUI on the path has a package of the name `tests`, too."""
    path = list(sys.path)
    sys.path[:] = [entry for entry in path if not (Path(entry) / "tests" / "__init__.py").exists()]
    try:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        yield context
    finally:
        sys.path[:] = path


def _started(context: Any, *arguments: Any) -> tuple[Any, Connection]:
    """A process at work, and where it tells how it ended; a process that dies before that ends the connection."""
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(*arguments, send))
    process.start()
    send.close()
    return process, receive


def run_until(calls: list[list[str]], seen: Callable[[], bool]) -> None:
    """Run the commands in one process, and end it with SIGKILL as soon as `seen` says so."""
    with _forkserver() as context:
        process, receive = _started(context, 0, 1, 0, {}, calls)
    while process.is_alive() and not seen():
        time.sleep(0.005)
    assert process.is_alive(), receive.recv()
    process.kill()
    process.join()


def run_together(processes: int, calls: list[list[str]], **environment: str) -> None:
    """Run the commands one after another, every one in all processes; AssertionError with what went wrong."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with _forkserver() as context:
        started = [_started(context, rank, processes, port, environment, calls) for rank in range(processes)]
    failures = [receive.recv() for _, receive in started]
    for process, _ in started:
        process.join()
    assert not any(failures), "\n".join(failures)

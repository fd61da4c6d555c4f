"""Starts training commands in several processes of one gloo group, as torchrun does, from a server that has imported
all once."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env

PRELOAD = ["sf_model.training.__main__", "sf_model.training.run", "sf_model.training.data.label"]

USE_FSDP = "ACCELERATE_USE_FSDP"
THREADS = "OMP_NUM_THREADS"


def launch_environment(config: Path) -> dict[str, str]:
    """What `accelerate launch` tells its processes of a config file, by accelerate's own launcher."""
    arguments = launch_command_parser().parse_args(["--config_file", str(config), "script.py"])
    arguments, _, _ = _validate_launch_command(arguments)
    told = prepare_multi_gpu_env(arguments)
    return {name: value for name, value in told.items() if name.startswith(("ACCELERATE_", "FSDP_"))}


def _use_fsdp_on_cpus() -> None:
    """accelerate shares parameters on GPUs only. Its one condition is set aside here, as AcceleratorState has it for
    GPUs; plugin, wrapping, sharding and the optimiser's change of parameters are accelerate's own."""
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType
    from torch.distributed.tensor import DTensor

    from sf_model.training import loop, run
    from sf_model.training.run_state import RunState

    build, whole = loop.build_accelerator, RunState.whole

    def build_for_fsdp() -> Any:
        accelerator = build()
        accelerator.state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        accelerator.state.fsdp_plugin = loop.fsdp_plugin()
        prepare = accelerator.prepare

        def prepare_and_look(stage: Any, optimiser: Any) -> tuple[Any, Any]:
            blocks = stage._no_split_modules
            stage, optimiser = prepare(stage, optimiser)
            assert all(isinstance(parameter, DTensor) for parameter in stage.parameters())
            assert blocks and all(hasattr(m, "unshard") for m in stage.modules() if m.__class__.__bases__[-1] in blocks)
            return stage, optimiser

        accelerator.prepare = prepare_and_look
        return accelerator

    def whole_and_look(self: RunState) -> Any:
        files = whole(self)
        is_main = PartialState().process_index == 0
        assert all(bool(tensors) == is_main for tensors in files.values())
        return files

    run.build_accelerator = build_for_fsdp
    RunState.whole = whole_and_look  # type: ignore[method-assign]


def _work(
    rank: int, world: int, port: int, environment: dict[str, str], calls: list[list[str]], out: Connection
) -> None:
    import torch
    from accelerate import PartialState

    from sf_model.training.__main__ import main

    torch.set_num_threads(1)
    group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ.update({"ACCELERATE_USE_CPU": "true", **environment})
    if port:
        os.environ.update({"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in group.items()}})
    try:
        if USE_FSDP in environment:
            _use_fsdp_on_cpus()
        for arguments in calls:
            main(arguments)
            assert PartialState().num_processes == world
        out.send("")
    except BaseException:
        out.send(traceback.format_exc())


@contextmanager
def _forkserver() -> Iterator[Any]:
    """A context whose processes find these tests: a ComfyUI on the path has a package of the name `tests`, too.

    Each has one thread from its start, as torchrun's have. With `torch.set_num_threads` alone, which comes later, two
    processes rounded otherwise than one.
    """
    path, threads = list(sys.path), os.environ.get(THREADS)
    sys.path[:] = [entry for entry in path if not (Path(entry) / "tests" / "__init__.py").exists()]
    os.environ[THREADS] = "1"
    try:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        yield context
    finally:
        sys.path[:] = path
        os.environ.pop(THREADS)
        if threads is not None:
            os.environ[THREADS] = threads


def _started(context: Any, *arguments: Any) -> tuple[Any, Connection]:
    """A process at work, and where it tells how it ended; a process that dies before that ends the connection."""
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(*arguments, send))
    process.start()
    send.close()
    return process, receive


def _start_group(processes: int, calls: list[list[str]], environment: dict[str, str]) -> list[tuple[Any, Connection]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with _forkserver() as context:
        return [_started(context, rank, processes, port, environment, calls) for rank in range(processes)]


def _how_it_ended(process: Any, receive: Connection) -> str:
    """Empty where all went well, else what went wrong; waits for it."""
    try:
        return receive.recv()
    except EOFError:
        process.join()
        return f"{process.name} died with exit code {process.exitcode}"


def run_until(seen: Callable[[], bool], processes: int, calls: list[list[str]], **environment: str) -> None:
    """As `run_together`, but end all processes with SIGKILL as soon as `seen` says so."""
    started = _start_group(processes, calls, environment)
    while all(process.is_alive() for process, _ in started) and not seen():
        time.sleep(0.005)
    ended = [_how_it_ended(process, receive) for process, receive in started if not process.is_alive()]
    for process, _ in started:
        process.kill()
        process.join()
    assert not ended, "\n".join(ended) or "it ended before it could be killed"


def run_together(processes: int, calls: list[list[str]], **environment: str) -> None:
    """Run the commands one after another, every one in all processes; AssertionError with what went wrong.

    With shared parameters a group whose process a signal ended starts again, once, as torchrun's --max-restarts does:
    accelerate shares them on GPUs only, and on CPUs glibc has found torch's heap corrupted once, in CI. An error in
    Python is not run again.
    """
    failures, crashed = _run_group(processes, calls, environment)
    if crashed and USE_FSDP in environment:
        warnings.warn(f"started again: {failures}", stacklevel=2)
        failures, _ = _run_group(processes, calls, environment)
    assert not any(failures), "\n".join(failures)


def _run_group(processes: int, calls: list[list[str]], environment: dict[str, str]) -> tuple[list[str], bool]:
    """How each process ended, and whether a signal ended one."""
    started = _start_group(processes, calls, environment)
    failures = [_how_it_ended(process, receive) for process, receive in started]
    for process, _ in started:
        process.join()
    return failures, any(process.exitcode < 0 for process, _ in started)

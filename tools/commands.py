"""The command line of dev.py. An expected failure prints one message on stderr and gives a non-zero exit status."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from .bench import add_arguments as add_bench_arguments
from .bench import bench
from .checks import check
from .demo import demo
from .errors import DevError, disk_full_message, is_disk_full

ROOT = Path(__file__).resolve().parents[1]


def run(arguments: list[str]) -> int:
    """Run one command and return the exit status: 0 done, 1 failed, 2 wrong usage, 130 cancelled."""
    _stop_in_order_when_ended()
    _keep_bytecode()
    options, rest = _parser().parse_known_args(arguments)
    try:
        if options.command == "test":
            return check(ROOT, rest)
        if rest:
            _parser().error(f"unrecognized arguments: {' '.join(rest)}")
        if options.command == "bench":
            return bench(ROOT, options)
        return demo(ROOT, options.prompt, options.port)
    except DevError as error:
        message = str(error)
    except OSError as error:
        if not is_disk_full(error):
            raise
        message = disk_full_message(ROOT)
    except KeyboardInterrupt:
        print("\ndev.py: cancelled", file=sys.stderr)
        return 130
    print(f"dev.py: {message}", file=sys.stderr)
    return 1


def _keep_bytecode() -> None:
    """Let all child processes share compiled modules: a server imports thousands of them.

    They are not written beside the sources, which may be in the user's own ComfyUI.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ.setdefault("PYTHONPYCACHEPREFIX", str(ROOT / ".host" / "bytecode"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dev.py", description="Try and test SpatialFusion in a real ComfyUI.")
    commands = parser.add_subparsers(dest="command", required=True)
    demo_parser = commands.add_parser("demo", help="make an image and its metric depth from a prompt, into output/")
    demo_parser.add_argument("prompt", nargs="?", help="what the image shows; default: the template's prompt")
    demo_parser.add_argument("--port", type=int, help="the server's port (default: a free one)")
    commands.add_parser(
        "test",
        help="ruff and all tests, with real servers; --fast: without servers, in less than a minute",
        add_help=False,
    )
    add_bench_arguments(commands.add_parser("bench", help="time, memory and parameters that the pack adds"))
    return parser


def _stop_in_order_when_ended() -> None:
    """Treat SIGTERM and a closed terminal like Ctrl-C, so that the server is stopped."""

    def cancel(*_: object) -> None:
        raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), cancel)

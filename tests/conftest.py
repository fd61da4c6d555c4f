"""Fixtures for every test."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tools import hosts

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this repository, which is the node pack."""
    return ROOT


@pytest.fixture(scope="session")
def comfy_path() -> Path:
    """The folder of a ComfyUI (COMFYUI_PATH_FOR_TESTS, else the newest host) whose `comfy` this process can import.

    It is put first on sys.path, and its command line is parsed as `--cpu`.
    """
    default = hosts.host_folder(ROOT, hosts.NEWEST.version)
    path = Path(os.environ.get("COMFYUI_PATH_FOR_TESTS", default))
    if not (path / "comfy").is_dir():
        pytest.fail(f"no ComfyUI in {path}: 'python3 dev.py test' fetches one", pytrace=False)
    sys.path.insert(0, str(path))
    import comfy.options

    comfy.options.enable_args_parsing()
    arguments, sys.argv = sys.argv, ["x", "--cpu"]
    try:
        import comfy.cli_args  # parses sys.argv, once
    finally:
        sys.argv = arguments
    return path

"""Fixtures for every test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sf_model.training.processor import avoid_refused_instructions
from tests.pack_copies import ARCHIVE, comfy_cli, make_checkout

ROOT = Path(__file__).resolve().parents[1]

# For the servers and commands that tests start, too.
avoid_refused_instructions()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this repository, which is the node pack."""
    return ROOT


@pytest.fixture(scope="session")
def checkout(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this repository as it stands, without anything that git ignores, committed in a git of its own."""
    return make_checkout(repository, tmp_path_factory.mktemp("checkout") / "ComfyUI-SpatialFusion")


@pytest.fixture(scope="session")
def archive(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pack as the registry gets it: the file that `comfy node pack` writes."""
    comfy_cli(checkout, tmp_path_factory.mktemp("comfy-cli"), "node", "pack")
    folder = tmp_path_factory.mktemp("archive")
    return (checkout / ARCHIVE).rename(folder / ARCHIVE)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Models and renders this small lose time to threads that wait for each other; what fixtures make, too."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_accelerator() -> Iterator[None]:
    """accelerate keeps the first run's precision for the whole process; every test has its own."""
    yield
    if (state := sys.modules.get("accelerate.state")) is not None:
        state.AcceleratorState._reset_state(reset_partial_state=True)

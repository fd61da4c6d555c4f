"""A graph of stock nodes in a real server, and sf_model's own pipeline in this process, draw the same image."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.host.same_image import (
    HEIGHT,
    TOLERANCE,
    WIDTH,
    Case,
    checkpoint_name,
    distance,
    drawn_by_host,
    graph_of,
    load_base,
    sf_model_image,
    write_files,
)
from tests.host.server import ComfyServer
from tools import hosts

CASES = [Case(architecture, is_edit) for architecture in ("omnigen2", "qwen_image") for is_edit in (False, True)]


def shows_sources_rightly(version: str, case: Case, repository: Path) -> bool:
    """Whether the host has no fault of its own here: the oldest hands a source's features to Qwen2.5-VL in the order of
    its tower's windows, which later ones mended; what it makes of an edit equals its own stock nodes' only
    (test_real_bases.py)."""
    tower = hosts.host_folder(repository, version) / "comfy" / "text_encoders" / "qwen_vl.py"
    mended = "argsort(window_index)" in tower.read_text(encoding="utf-8")
    return mended or case.architecture != "qwen_image" or not case.is_edit


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.architecture} {'edit' if case.is_edit else 'text'}")
def test_the_graph_and_sf_model_draw_the_same_image(server: ComfyServer, case: Case, repository: Path) -> None:
    write_files(server, case)
    prefix = f"same_{case.architecture}_{case.is_edit}"
    found = drawn_by_host(server, graph_of(case, prefix), prefix)
    base = load_base(server, case, repository)
    expected = sf_model_image(server, base, case, checkpoint_name(case))
    assert found.shape == expected.shape == (1, 3, HEIGHT, WIDTH)
    agree = distance(found, expected) < TOLERANCE
    assert agree == shows_sources_rightly(server.version, case, repository)
    without = sf_model_image(server, base, case, checkpoint_name(case), strength=0.0)
    assert distance(without, expected) > 10 * TOLERANCE  # the depth is no small part of it

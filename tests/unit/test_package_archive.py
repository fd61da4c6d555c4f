"""The archive for the registry: comfy-cli finds nothing to complain about, and it holds what it should and no more."""

from __future__ import annotations

import posixpath
import re
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from tests.pack_copies import comfy_cli, git, local_targets

MEGABYTE = 1024 * 1024
# Of sf_model: no node imports it (tests/unit/test_package_sources.py), and no page of the archive shows it.
LEFT_OUT = {
    PurePosixPath("sf_model", name)
    for name in ("training", "evaluation", "scene_reader", "world", "mini/TRAINING.md", "mini/reports")
}


@pytest.fixture(scope="module")
def contents(archive: Path) -> set[PurePosixPath]:
    with zipfile.ZipFile(archive) as file:
        assert file.testzip() is None
        return {PurePosixPath(name) for name in file.namelist()}


def test_validates_without_a_warning(checkout: Path, tmp_path: Path) -> None:
    output = comfy_cli(checkout, tmp_path, "node", "validate")
    assert "All validation checks passed successfully" in output
    assert not re.search("warning|error", output, re.I), output


def test_is_small(archive: Path) -> None:
    assert archive.stat().st_size < 60 * MEGABYTE


def test_holds_the_parts_of_the_pack_and_no_others(contents: set[PurePosixPath], checkout: Path) -> None:
    assert {path.parts[0] for path in contents} == {
        *("__init__.py", "pyproject.toml", "requirements.txt"),
        *("nodes", "sf_model", "web", "locales", "workflows", "subgraphs", "docs"),
        *("README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE"),
    }
    tracked = {PurePosixPath(line) for line in git(checkout, "ls-files").splitlines()}
    for folder in ("nodes", "sf_model", "web", "locales", "workflows", "subgraphs"):
        needed = {path for path in tracked if path.parts[0] == folder and not LEFT_OUT & {path, *path.parents}}
        assert {path for path in contents if path.parts[0] == folder} == needed


@pytest.mark.parametrize(
    "path",
    [
        "sf_model/mini/mini_dit.safetensors",
        "sf_model/mini/mini_mllm.safetensors",
        "sf_model/mini/mini_spatialfusion.safetensors",
        "sf_model/mini/MODEL_CARD.md",
        "docs/nodes.md",
        "workflows/text_to_image_mini.json",
        "workflows/text_to_image_mini.jpg",
        "subgraphs/Metric Depth to Image (Z-Image-Turbo).json",
        "web/docs/SpatialFusionPredictDepth/en.md",
        "locales/en/nodeDefs.json",
    ],
)
def test_holds(contents: set[PurePosixPath], path: str) -> None:
    assert PurePosixPath(path) in contents


def test_its_pages_link_to_nothing_that_was_left_out(contents: set[PurePosixPath], archive: Path) -> None:
    dead = []
    with zipfile.ZipFile(archive) as file:
        for page in (path for path in contents if path.suffix == ".md"):
            # The front end puts /extensions/<pack>/docs/ before the addresses on help pages.
            folder = page.parts[:2] if page.parts[:2] == ("web", "docs") else page.parent.parts
            for target in local_targets(file.read(str(page)).decode("utf-8")):
                path = posixpath.normpath(posixpath.join(*folder, target))
                if not any(str(held) == path or held.is_relative_to(path) for held in contents):
                    dead.append(f"{page}: {target}")
    assert dead == []


def test_nothing_of_development_is_in_it(contents: set[PurePosixPath]) -> None:
    assert [path for path in contents if "tests" in path.parts or path.name.startswith(("test_", "conftest"))] == []
    assert [path for path in contents if path.suffix in (".pyc", ".pt", ".ckpt", ".pth", ".pkl", ".bin")] == []


def test_names_differ_by_more_than_case(contents: set[PurePosixPath]) -> None:
    """Or they would be one file on Windows and macOS; and Windows takes no path of over 260 characters."""
    assert len({str(path).lower() for path in contents}) == len(contents)
    assert max(len(str(path)) for path in contents) < 120
    # The front end shows a blueprint by the name of its file.
    names = [str(path) if path.parts[0] != "subgraphs" else re.sub("[ ()]", "", str(path)) for path in contents]
    assert [name for name in names if not re.fullmatch(r"[A-Za-z0-9_./-]+", name)] == []

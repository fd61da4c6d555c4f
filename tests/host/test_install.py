"""The pack installed as users do it, in an environment that has what ComfyUI needs and nothing of the tests."""

from __future__ import annotations

import io
import json
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from tests.host.browser import Browser
from tests.host.server import ComfyServer, Graph
from tests.pack_copies import declared_nodes, git
from tools import hosts
from tools.bench_import import start_once
from tools.host_process import DIRECT

DEMO = "text_to_image_mini"
# ComfyUI-Manager clones under the repository's name; the registry's archives are unpacked under the project's.
CLONE, UNPACKED = "ComfyUI-SpatialFusion", "comfyui-spatialfusion"


@dataclass(frozen=True)
class Installed:
    """A running server in the clean environment, with the pack in a folder of its custom_nodes."""

    server: ComfyServer
    pack: Path
    packages_before: str
    python: Path

    def api(self, path: str) -> bytes:
        with DIRECT.open(f"{self.server.url}/{path}", timeout=60) as response:
            return response.read()

    def demo_graph(self) -> Graph:
        return json.loads((self.pack / "workflows" / "api" / f"{DEMO}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def clean_python(repository: Path) -> Path:
    """The Python of an environment with the hosts' requirements alone. `dev.py test` has made it before."""
    return hosts.ensure_clean_environment(repository).python


def pip(python: Path, *arguments: str, folder: Path | None = None) -> str:
    # -s as ComfyUI-Manager calls it.
    command = [str(python), "-s", "-m", "pip", "--disable-pip-version-check", *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8")
    assert result.returncode == 0, result.stderr
    return result.stdout


def install_clone(custom_nodes: Path, checkout: Path, archive: Path) -> Path:
    git(custom_nodes, "clone", "--quiet", "--recursive", checkout.as_uri(), CLONE)
    return custom_nodes / CLONE


def install_archive(custom_nodes: Path, checkout: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive) as file:
        file.extractall(custom_nodes / UNPACKED)
    return custom_nodes / UNPACKED


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((install, version), id=f"{install.__name__}-{version}")
        for install, version in (
            (install_clone, hosts.OLDEST.version),
            (install_clone, hosts.NEWEST.version),
            (install_archive, hosts.NEWEST.version),
        )
    ],
)
def installed(
    request: pytest.FixtureRequest,
    repository: Path,
    checkout: Path,
    archive: Path,
    clean_python: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Installed]:
    """The pack in custom_nodes, each way in each host; its requirements installed, and the server started."""
    install: Callable[[Path, Path, Path], Path]
    install, version = request.param
    folder = tmp_path_factory.mktemp(f"{install.__name__}-{version}")
    server = ComfyServer(repository, version, folder, link_pack=False, python=clean_python)
    before = pip(clean_python, "freeze", "--all")
    pack = install(server.base / "custom_nodes", checkout, archive)
    pip(clean_python, "install", "-r", "requirements.txt", folder=pack)
    server.start()
    yield Installed(server, pack, before, clean_python)
    server.stop()


def test_the_environment_is_the_hosts_alone(clean_python: Path) -> None:
    names = {line.split("==")[0].lower() for line in pip(clean_python, "freeze").splitlines()}
    assert {"torch", "transformers", "aiohttp"} <= names
    assert names.isdisjoint({"pytest", "ruff", "diffusers", "accelerate", "playwright", "comfy-cli"})


def test_nodes_are_registered(installed: Installed) -> None:
    assert "IMPORT FAILED" not in installed.server.log_text()
    nodes = json.loads(installed.api("object_info"))
    module = f"custom_nodes.{installed.pack.name}"
    registered = {name for name, node in nodes.items() if node["python_module"] == module}
    assert registered == declared_nodes(installed.pack)
    assert "SpatialFusionPredictDepth" in registered


def test_demo_runs_and_the_environment_is_unchanged(installed: Installed) -> None:
    graph = installed.demo_graph()
    outputs = installed.server.run(graph)
    (image,) = [
        file
        for node_id, output in outputs.items()
        if graph[node_id]["class_type"] == "SaveImage"
        for file in output["images"]
    ]
    assert Image.open(io.BytesIO(installed.server.view(image))).size == (128, 128)
    assert any("metric_depth" in output for output in outputs.values())
    assert pip(installed.python, "freeze", "--all") == installed.packages_before
    if (installed.pack / ".git").exists():  # or the next update, a pull, would find changes
        assert git(installed.pack, "status", "--porcelain") == ""


def test_templates_help_and_languages_are_served(installed: Installed) -> None:
    name = installed.pack.name
    templates = {path.stem for path in (installed.pack / "workflows").glob("*.json")}
    assert set(json.loads(installed.api("api/workflow_templates"))[name]) == templates
    for path in (path for path in (installed.pack / "web").rglob("*") if path.is_file()):
        url = f"extensions/{name}/{path.relative_to(installed.pack / 'web').as_posix()}"
        assert installed.api(url) == path.read_bytes(), url
    languages = {path.name for path in (installed.pack / "locales").iterdir()}
    translations = json.loads(installed.api("api/i18n"))
    assert all("SpatialFusionPredictDepth" in translations[language]["nodeDefs"] for language in languages)


def test_demo_runs_in_the_browser(installed: Installed, browser: Browser) -> None:
    graph = json.loads((installed.pack / "workflows" / f"{DEMO}.json").read_text(encoding="utf-8"))
    installed.server.free_memory()  # the front end shows no results of nodes that need not run again
    with browser.open(installed.server) as page:
        page.load_graph(graph)
        outputs = page.run()
        assert any(output.get("metric_depth") for output in outputs.values())
        # The oldest host has no icon.
        assert page.console_errors() == []


@pytest.mark.parametrize("version", hosts.RELEASES)
def test_the_start_imports_the_pack_and_nothing_else(
    version: str, repository: Path, checkout: Path, clean_python: Path, tmp_path: Path
) -> None:
    """In the real start, whatever is not there once the host is up would be on the pack's account."""
    server = ComfyServer(repository, version, tmp_path, link_pack=False, python=clean_python)
    pack = install_clone(server.base / "custom_nodes", checkout, checkout)
    measured = start_once(version, server.base, [str(clean_python)])[0]["packs"][pack.name]
    assert measured["loaded"]
    own = str(pack).replace(".", "_x_")  # how the host names a pack's modules
    modules = {name.removeprefix(own) for name in measured["modules"] if name.startswith(own)}
    assert {".nodes.generate.load_checkpoint", ".sf_model.checkpoint"} <= modules
    assert [name for name in modules if name.startswith((".sf_model.training", ".sf_model.evaluation"))] == []
    assert [name for name in measured["modules"] if not name.startswith(own)] == []

"""Parts of the installation or of the host are missing or damaged: other nodes work, and errors say what to do."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.mini_graphs import BUILT_IN, node, predict_graph
from tests.host.server import ComfyServer, Graph, PromptError
from tests.pack_copies import declared_nodes
from tools import hosts

PACK = "comfyui-spatialfusion"
# Geometry estimators and 3D of the host: older or trimmed hosts lack them.
HOST_PARTS = (
    *("comfy_extras/nodes_moge.py", "comfy_extras/nodes_depth_anything_3.py", "comfy_extras/nodes_hunyuan3d.py"),
    *("comfy_extras/nodes_load_3d.py", "comfy_extras/nodes_save_3d.py", "comfy_extras/nodes_gaussian_splat.py"),
    *("comfy_extras/nodes_stable3d.py", "comfy_extras/nodes_chroma_radiance.py", "comfy/ldm/moge"),
)
PACK_PARTS = ("locales", "workflows", "docs", "README.md")
WEIGHTS = ("mini_dit.safetensors", "mini_mllm.safetensors", "mini_spatialfusion.safetensors")


def remove(path: Path) -> None:
    assert path.exists(), path
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


@pytest.fixture(scope="module")
def broken(repository: Path, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A server that was started without HOST_PARTS, PACK_PARTS and weights, and a file where checkpoints should be."""
    folder = tmp_path_factory.mktemp("broken")
    host = folder / "ComfyUI"
    shutil.copytree(hosts.host_folder(repository, hosts.NEWEST.version), host)
    for name in HOST_PARTS:
        remove(host / name)
    server = ComfyServer(repository, hosts.NEWEST.version, folder, link_pack=False, host=host)
    pack = pack_of(server)
    with zipfile.ZipFile(archive) as file:
        file.extractall(pack)
    for name in PACK_PARTS:
        remove(pack / name)
    (pack / "sf_model" / "mini").rename(folder / "mini")
    (server.base / "models" / "spatialfusion").write_bytes(b"no folder")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def with_weights(broken: ComfyServer) -> Iterator[Path]:
    """The folder of the weights, put back for one test: no restart is needed."""
    kept, folder = broken.base.parent / "mini", pack_of(broken) / "sf_model" / "mini"
    shutil.copytree(kept, folder)
    broken.free_memory()
    yield folder
    shutil.rmtree(folder)
    broken.free_memory()


def pack_of(server: ComfyServer) -> Path:
    return server.base / "custom_nodes" / PACK


def load_graph() -> Graph:
    graph = predict_graph()
    graph["save"] = node("SpatialFusionSaveDepth", geometry=["predict", 0], filename_prefix="tests/broken")
    return graph


def weightless_graph() -> Graph:
    camera = {"encoding": "disparity", "invert": False, "fov_y_deg": 50.0}
    return {
        "image": node("EmptyImage", width=32, height=16, batch_size=1, color=0x808080),
        "geometry": node("SpatialFusionImageToDepth", image=["image", 0], near_m=1.0, far_m=10.0, **camera),
        "save": node("SpatialFusionSaveDepth", geometry=["geometry", 0], filename_prefix="tests/weightless"),
    }


def error_of(server: ComfyServer, graph: Graph) -> PromptError:
    with pytest.raises(PromptError) as caught:
        server.run(graph)
    assert server.alive
    return caught.value


def test_every_node_is_there(broken: ComfyServer) -> None:
    (line,) = [line for line in broken.log_text().splitlines() if line.endswith(PACK) and " seconds" in line]
    assert "IMPORT FAILED" not in line
    assert broken.object_info("MoGeRender") is None, "the host was to lack it"
    assert {name for name in declared_nodes(pack_of(broken)) if broken.object_info(name) is None} == set()


def test_a_file_in_place_of_the_checkpoints_leaves_the_built_in_one(broken: ComfyServer) -> None:
    info = broken.object_info("SpatialFusionLoader")
    assert info is not None
    kind, options = info["input"]["required"]["checkpoint"]
    assert (options.get("options") or kind) == [BUILT_IN]


def test_nodes_that_need_no_weights_work(broken: ComfyServer) -> None:
    assert broken.run(weightless_graph())["save"]["metric_depth"]


def test_without_weights_the_loader_says_what_to_do(broken: ComfyServer) -> None:
    error = error_of(broken, load_graph())
    assert error.node_type == "SpatialFusionMiniLoader"
    assert "mini_dit.safetensors" in error.message and "install the pack again" in error.message


@pytest.mark.parametrize("damage", ["missing", "cut off"])
@pytest.mark.parametrize("name", WEIGHTS)
def test_damaged_weights_are_named(broken: ComfyServer, with_weights: Path, name: str, damage: str) -> None:
    path = with_weights / name
    contents = path.read_bytes()
    path.unlink()
    if damage == "cut off":
        path.write_bytes(contents[: len(contents) // 2])
    error = error_of(broken, load_graph())
    assert error.node_type == ("SpatialFusionLoader" if "spatialfusion" in name else "SpatialFusionMiniLoader")
    assert name in error.message
    assert "install the pack again" in error.message


def test_weights_put_back_work_without_a_restart(broken: ComfyServer, with_weights: Path) -> None:
    assert broken.run(load_graph())["save"]["metric_depth"]


def test_a_missing_temporary_folder_is_made_again(broken: ComfyServer, with_weights: Path) -> None:
    shutil.rmtree(broken.base / "temp")
    graph = load_graph()
    graph["predict"]["inputs"]["prompt"] = "a house"
    assert broken.run(graph)["predict"]["images"]


def test_an_output_folder_that_cannot_be_written_fails_the_saver_alone(broken: ComfyServer) -> None:
    shutil.rmtree(broken.base / "output", ignore_errors=True)
    (broken.base / "output").write_bytes(b"no folder")
    error = error_of(broken, weightless_graph())
    assert (error.kind, error.node_type) == ("execution", "SpatialFusionSaveDepth")
    (broken.base / "output").unlink()
    assert broken.run(weightless_graph())["save"]["metric_depth"]

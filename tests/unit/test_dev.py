"""dev.py's messages, each provoked by the real thing: a closed port, a full device, an old Python, a dying host."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools import errors, hosts, run_graph
from tools.demo import external_python, load_graph
from tools.environment import Environment
from tools.errors import DevError
from tools.host_process import PACK_FOLDER, HostProcess, free_port, make_base_folder

GRAPH = {
    "1": {"class_type": "SpatialFusionPredictDepth", "inputs": {"prompt": "a red car"}},
    "2": {"class_type": "VAEDecode", "inputs": {}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}, "_meta": {"title": "Save the picture"}},
}


@pytest.fixture
def clone(repository: Path, tmp_path: Path) -> Path:
    """dev.py, tools and a template in a folder without environment or hosts."""
    root = tmp_path / "clone"
    shutil.copytree(repository / "tools", root / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dev.py", "pyproject.toml"):
        shutil.copy(repository / name, root / name)
    template = root / "workflows" / "api" / "text_to_image_mini.json"
    template.parent.mkdir(parents=True)
    template.write_text(json.dumps(GRAPH), encoding="utf-8")
    return root


@pytest.fixture
def installer(tmp_path: Path) -> Environment:
    """An environment whose Python is the one that runs the tests."""
    environment = Environment(tmp_path)
    environment.python = Path(sys.executable)
    return environment


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def run_dev(root: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(root / "dev.py"), *arguments],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=120,
    )


def fake_host(folder: Path, main: str) -> Path:
    folder.mkdir()
    (folder / "main.py").write_text(main, encoding="utf-8")
    return folder


def assert_one_message(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert result.returncode == 1, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("dev.py: ")
    for part in parts:
        assert part in result.stderr


def test_no_network(clone: Path) -> None:
    closed = f"http://127.0.0.1:{free_port()}/simple"
    result = run_dev(clone, "demo", PIP_INDEX_URL=closed, PIP_RETRIES="0", PIP_NO_INDEX="0", COMFYUI_PATH="")
    assert_one_message(result, "the package index cannot be reached", "needs the network", "PIP_INDEX_URL")
    assert not Environment(clone).is_current("demo", [])


@pytest.mark.parametrize("version", [(2, 7), (3, 9), (3, 14)])
def test_unsupported_python(repository: Path, version: tuple[int, int]) -> None:
    spec = importlib.util.spec_from_file_location("dev", repository / "dev.py")
    dev = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(dev)
    message = dev.unsupported_python(version)
    assert f"Python {version[0]}.{version[1]} is not supported" in message
    assert "3.10 to 3.13" in message
    assert dev.unsupported_python((3, 10)) == dev.unsupported_python((3, 13)) == ""


def test_dev_py_has_no_syntax_that_python_2_lacks(repository: Path) -> None:
    source = (repository / "dev.py").read_text(encoding="ascii")
    for newer in ('f"', "->", ":=", "nonlocal", "from __future__", "async ", "match "):
        assert newer not in source


def test_wanted_port_is_taken(clone: Path, taken_port: int) -> None:
    result = run_dev(clone, "demo", "--port", str(taken_port))
    assert_one_message(result, f"Port {taken_port} is taken", "--port")
    assert not (clone / ".venv").exists()


def test_a_free_port_is_chosen(taken_port: int) -> None:
    assert free_port() != taken_port


def test_not_enough_space(tmp_path: Path) -> None:
    with pytest.raises(DevError, match=r"needs about 1000000 GiB, and .* GiB free"):
        errors.require_free_space(tmp_path, 1e6)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_disk_full_while_installing(installer: Environment) -> None:
    write_to_full_disk = "open('/dev/full', 'w', buffering=1).write('x' * 100000)"
    with pytest.raises(DevError, match="The disk is full: .* Free at least 8 GiB"):
        installer.run_installer("Copying", ["timeit", "-n", "1", "-r", "1", write_to_full_disk])


def test_other_failures_show_the_last_lines_and_the_log(installer: Environment) -> None:
    with pytest.raises(DevError, match=r"Compiling failed: .*No module named no_such_installer.*install\.log"):
        installer.run_installer("Compiling", ["no_such_installer"])
    assert "No module named" in installer.log.read_text(encoding="utf-8")


def test_host_that_dies_at_start(clone: Path, tmp_path: Path) -> None:
    host = fake_host(tmp_path / "host", "for i in range(30): print('line', i)\nraise SystemExit(3)\n")
    result = run_dev(clone, "demo", COMFYUI_PATH=str(host))
    assert_one_message(
        result, "ComfyUI stopped while starting (exit code 3)", "line 10\n", "line 29", "demo-server.log"
    )
    assert "line 9\n" not in result.stderr


def test_host_that_hangs_at_start(tmp_path: Path) -> None:
    host = fake_host(tmp_path / "host", "import time\nprint('thinking', flush=True)\ntime.sleep(60)\n")
    process = HostProcess(Path(sys.executable), host, tmp_path / "base", tmp_path / "server.log")
    with process, pytest.raises(DevError, match="(?s)did not answer within 1 s.*thinking"):
        process.wait_ready(timeout_s=1.0)
    assert not process.alive


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to send")
def test_cancelled_demo_stops_the_host(clone: Path, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    main = f"import os, time\nopen({str(pid_file)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
    host = fake_host(tmp_path / "host", main)
    command = [sys.executable, str(clone / "dev.py"), "demo"]
    with subprocess.Popen(command, env={**os.environ, "COMFYUI_PATH": str(host)}, stderr=subprocess.PIPE) as demo:
        deadline = time.monotonic() + 60
        while not (pid_file.exists() and pid_file.read_text(encoding="utf-8")) and time.monotonic() < deadline:
            time.sleep(0.1)
        demo.send_signal(signal.SIGTERM)
        assert b"dev.py: cancelled" in demo.communicate(timeout=20)[1]
    assert demo.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text(encoding="utf-8")), 0)


def test_comfyui_path_that_is_no_comfyui(clone: Path, tmp_path: Path) -> None:
    assert_one_message(run_dev(clone, "demo", COMFYUI_PATH=str(tmp_path)), "has no main.py")


def test_python_of_an_existing_comfyui(tmp_path: Path) -> None:
    host = tmp_path / "ComfyUI"
    assert external_python(host) == Path(sys.executable)
    embedded = tmp_path / "python_embeded" / "python.exe"
    own = host / "venv" / "bin" / "python"
    for python in (embedded, own):
        python.parent.mkdir(parents=True)
        python.touch()
        assert external_python(host) == python


def test_prompt_goes_into_the_graph(clone: Path) -> None:
    template = clone / "workflows" / "api" / "text_to_image_mini.json"
    assert load_graph(template, "a blue house")["1"]["inputs"]["prompt"] == "a blue house"
    assert load_graph(template, "")["1"]["inputs"]["prompt"] == ""
    assert load_graph(template, None) == GRAPH
    template.unlink()
    with pytest.raises(DevError, match="is missing"):
        load_graph(template, None)


def write_archive(path: Path, names: list[str]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
        link = tarfile.TarInfo("pkg-1/vendor/ComfyUI/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return path


def test_unpacks_the_host_alone(tmp_path: Path) -> None:
    names = ["pkg-1/setup.py", "pkg-1/vendor/ComfyUI/main.py", "pkg-1/vendor/ComfyUI/comfy/ops.py"]
    target = tmp_path / "ComfyUI"
    hosts.unpack_host(write_archive(tmp_path / "host.tar.gz", names), target)
    found = {str(path.relative_to(target).as_posix()) for path in target.rglob("*") if not path.is_dir()}
    assert found == {"main.py", "comfy/ops.py"}


@pytest.mark.parametrize("name", ["../../../escaped", "a/../../b", "C:escaped"])
def test_unsafe_archive_leaves_nothing(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inner" / "more"
    folder.mkdir(parents=True)
    archive = write_archive(tmp_path / "host.tar.gz", ["pkg-1/vendor/ComfyUI/main.py", f"pkg-1/vendor/ComfyUI/{name}"])
    with pytest.raises(DevError, match="unsafe path"):
        hosts.unpack_host(archive, folder / "ComfyUI")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [archive]
    assert list(folder.iterdir()) == []


def test_interrupted_install_starts_over(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project.optional-dependencies]\ntest = ["pytest"]\n', encoding="utf-8")
    environment = Environment(tmp_path)
    environment.create()
    leftover = environment.folder / "half-written"
    leftover.touch()
    environment.create()
    assert leftover.exists(), "a working environment is kept"
    (environment.folder / ".dev-unfinished").touch()
    environment.create()
    assert not leftover.exists()
    assert not environment.is_current("demo", [])


def test_stamp_follows_the_requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text('[project.optional-dependencies]\ntest = ["pytest"]\n[tool.x]\na = 1\n', encoding="utf-8")
    environment = Environment(tmp_path)
    environment.create()
    installed: list[list[str]] = []
    monkeypatch.setattr(environment, "uv_install", lambda what, arguments: installed.append(arguments))
    for _ in range(2):
        environment.install("test", ["einops"])
        environment.install("demo", ["einops"])
    assert len(installed) == 1, "'test' holds all that 'demo' needs, and nothing is installed twice"
    assert "einops" in installed[0] and "torch==2.11.0" in installed[0]
    pyproject.write_text(pyproject.read_text(encoding="utf-8").replace("a = 1", "a = 2"), encoding="utf-8")
    assert environment.is_current("test", ["einops"])
    pyproject.write_text(pyproject.read_text(encoding="utf-8").replace("pytest", "ruff"), encoding="utf-8")
    assert not environment.is_current("test", ["einops"])
    assert environment.is_current("demo", ["einops"])
    assert not environment.is_current("demo", ["einops>=1"])


def test_two_hosts_share_one_environment(tmp_path: Path) -> None:
    for version, text in {
        "0.30.0": "comfyui-frontend-package==2\ncomfyui-workflow-templates==1\ntorch\nnumpy>=1 # why\n\n#note\n",
        "0.18.2": "comfyui-frontend-package==1\ncomfyui_embedded_docs==1\ntorch\nglfw\n",
    }.items():
        folder = hosts.host_folder(tmp_path, version)
        folder.mkdir(parents=True)
        (folder / "requirements.txt").write_text(text, encoding="utf-8")
    assert hosts.shared_requirements(tmp_path) == ["torch", "numpy>=1"]
    assert hosts.own_requirements(tmp_path, "0.30.0") == ["comfyui-frontend-package==2"]
    assert hosts.own_requirements(tmp_path, "0.18.2") == ["comfyui-frontend-package==1", "glfw"]


def test_base_folder_links_the_pack(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for pack in (first, second):
        pack.mkdir()
        (pack / "__init__.py").touch()
    for pack in (first, first, second):  # a moved clone is linked anew
        make_base_folder(tmp_path / "base", pack)
        assert (tmp_path / "base" / "custom_nodes" / PACK_FOLDER).resolve() == pack.resolve()


def test_outputs_are_named_by_what_they_are(tmp_path: Path) -> None:
    graph = GRAPH | {"4": {"class_type": "SpatialFusionSaveDepth", "inputs": {"geometry": ["1", 0]}}}
    assert run_graph.output_name(graph, "3", "x_00001_.png") == "image.png"
    assert run_graph.output_name(graph, "4", "x_00001_.png") == "depth.png"
    assert run_graph.output_name(graph, "4", "x_00001_.npz") == "depth_m.npz"
    outputs = {
        "1": {"images": [{"filename": "preview.png", "type": "temp"}], "text": ["not a file"], "animated": (False,)},
        "4": {"images": [{"filename": "d.png", "type": "output"}], "arrays": [{"filename": "d.npz", "type": "output"}]},
    }
    names = [(name, file["filename"]) for name, file in run_graph.files_to_save(graph, outputs)]
    assert names == [("depth.png", "d.png"), ("depth_m.npz", "d.npz")]
    assert [name for name, _ in run_graph.files_to_save(graph, {"1": outputs["1"]})] == ["depth.png"]
    assert run_graph.unused_number(tmp_path) == 1
    (tmp_path / "0041_image.png").touch()
    assert run_graph.unused_number(tmp_path) == 42

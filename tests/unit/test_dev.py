"""dev.py's messages and what it runs, by the real thing: an old Python, a taken port, a dying host, a stub browser."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tools import chromium, run_graph
from tools.demo import external_python, load_graph
from tools.errors import DevError
from tools.host_process import PACK_FOLDER, HostProcess, free_port, make_base_folder, make_junction, port_refusal

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


@pytest.mark.parametrize("version", [(2, 7), (3, 9), (3, 14)])
def test_unsupported_python(repository: Path, version: tuple[int, int]) -> None:
    spec = importlib.util.spec_from_file_location("dev", repository / "dev.py")
    dev = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(dev)
    message = dev.unsupported_python(version)
    assert f"Python {version[0]}.{version[1]} is not supported" in message
    assert "from 3.10 to 3.13" in message
    assert dev.unsupported_python((3, 10)) == dev.unsupported_python((3, 13)) == ""


def test_dev_py_has_no_syntax_that_python_2_lacks(repository: Path) -> None:
    source = (repository / "dev.py").read_text(encoding="ascii")
    for newer in ('f"', "->", ":=", "nonlocal", "from __future__", "async ", "match "):
        assert newer not in source


def test_wanted_port_is_taken(clone: Path, taken_port: int) -> None:
    result = run_dev(clone, "demo", "--port", str(taken_port))
    assert_one_message(result, f"port {taken_port} is taken", "--port")
    assert not (clone / ".venv").exists()


@pytest.mark.parametrize("port", ["70000", "0", "-1"])
def test_port_out_of_range(clone: Path, port: str) -> None:
    assert_one_message(
        run_dev(clone, "demo", f"--port={port}"),
        f"Set --port from 1 to 65535, or leave it out to use a free one: it is {port}",
    )


def test_port_that_is_not_given_says_why() -> None:
    assert "port 80 is taken" in port_refusal(80, OSError(errno.EADDRINUSE, "Address already in use"))
    denied = port_refusal(80, PermissionError(errno.EACCES, "Permission denied"))
    assert "may not use port 80" in denied and "administrators" in denied and "taken" not in denied
    assert "Cannot assign" in port_refusal(80, OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"))


def test_a_free_port_is_chosen(taken_port: int) -> None:
    assert free_port() != taken_port


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


def test_host_behind_a_proxy_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """http_proxy is for the web: a server on this machine is asked directly."""
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "www" / "system_stats").mkdir(parents=True)
    main = "import sys\nfrom http.server import SimpleHTTPRequestHandler as H, ThreadingHTTPServer as S\n"
    main += "S(('127.0.0.1', int(sys.argv[2])), lambda *a: H(*a, directory='../www')).serve_forever()\n"
    host = fake_host(tmp_path / "host", main)
    with HostProcess(Path(sys.executable), host, tmp_path / "base", tmp_path / "server.log") as process:
        process.wait_ready(timeout_s=30.0)


def wait_for_pid(file: Path) -> int:
    deadline = time.monotonic() + 60
    while not (file.exists() and file.read_text(encoding="utf-8")) and time.monotonic() < deadline:
        time.sleep(0.1)
    return int(file.read_text(encoding="utf-8"))


def pid_writing_host(folder: Path, pid_file: Path) -> Path:
    main = f"import os, time\nopen({str(pid_file)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
    return fake_host(folder, main)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not end a process with its parent")
def test_host_dies_with_a_killed_parent(clone: Path, tmp_path: Path) -> None:
    host = pid_writing_host(tmp_path / "host", tmp_path / "pid")
    command = [sys.executable, str(clone / "dev.py"), "demo"]
    with subprocess.Popen(command, env={**os.environ, "COMFYUI_PATH": str(host)}) as demo:
        server = psutil.Process(wait_for_pid(tmp_path / "pid"))
        assert server.status() != psutil.STATUS_ZOMBIE
        demo.kill()
    # Dead, though perhaps not yet buried: that is for the process that inherits it.
    deadline = time.monotonic() + 10
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the server outlives dev.py"
        time.sleep(0.05)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to send")
def test_cancelled_demo_stops_the_host(clone: Path, tmp_path: Path) -> None:
    host = pid_writing_host(tmp_path / "host", tmp_path / "pid")
    command = [sys.executable, str(clone / "dev.py"), "demo"]
    with subprocess.Popen(command, env={**os.environ, "COMFYUI_PATH": str(host)}, stderr=subprocess.PIPE) as demo:
        pid = wait_for_pid(tmp_path / "pid")
        demo.send_signal(signal.SIGTERM)
        assert b"dev.py: cancelled" in demo.communicate(timeout=20)[1]
    assert demo.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


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


def test_base_folder_links_the_pack(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for pack in (first, second):
        pack.mkdir()
        (pack / "__init__.py").touch()
    for pack in (first, first, second):  # a moved clone is linked anew
        make_base_folder(tmp_path / "base", pack)
        assert (tmp_path / "base" / "custom_nodes" / PACK_FOLDER).resolve() == pack.resolve()


def test_folder_that_cannot_be_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "cmd"  # elsewhere than on Windows, whose own comes first
    command.write_text("#!/bin/sh\necho 'Local volumes are required' >&2\nexit 1\n", encoding="utf-8")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(DevError, match=r"NTFS.*could not be made: \w+ "):
        make_junction(tmp_path / "missing" / "link", tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="on Windows a browser is not started to see whether it runs")
def test_browsers_that_do_not_run_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def put(path: Path, exit_status: int) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\nexit {exit_status}\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    python = Path(sys.executable)
    monkeypatch.setattr(chromium, "_PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "browsers"))
    put(tmp_path / "bin" / "chromium-browser", 10)  # Ubuntu's stub
    with pytest.raises(DevError, match="no Chromium, Chrome or Edge that runs was found"):
        chromium.require_chromium(python)
    asked = subprocess.run([sys.executable, "-c", chromium.ASK_PLAYWRIGHT], capture_output=True, text=True, check=True)
    fetched = put(Path(asked.stdout.strip()), 0)
    assert fetched.is_relative_to(tmp_path)
    assert chromium.require_chromium(python) == fetched
    installed = put(tmp_path / "bin" / "google-chrome", 0)
    assert chromium.require_chromium(python) == installed


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

"""What dev.py installs, and what it says where it cannot: environment, hosts, and the packages of each."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tools import errors, hosts
from tools.environment import Environment, require_supported_platform
from tools.errors import DevError
from tools.host_process import free_port


@pytest.fixture
def installer(tmp_path: Path) -> Environment:
    """An environment whose Python is the one that runs the tests."""
    environment = Environment(tmp_path)
    environment.python = Path(sys.executable)
    return environment


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = f"http://127.0.0.1:{free_port()}/simple"
    for name, value in {"PIP_INDEX_URL": closed, "PIP_RETRIES": "1", "PIP_NO_INDEX": "0"}.items():
        monkeypatch.setenv(name, value)
    environment = Environment(tmp_path, needed_gib=0)
    with pytest.raises(DevError, match="PIP_INDEX_URL.*the package index cannot be reached.*needs the network"):
        hosts.prepare(environment, "demo", [hosts.NEWEST])
    assert not environment.is_current("demo", [])


def test_nothing_for_this_platform_is_no_missing_network(installer: Environment) -> None:
    arguments = ["pip", "download", "--no-index", "--find-links", str(installer.root), "--no-deps", "no-such-package"]
    with pytest.raises(DevError, match="Fetching failed: .*No matching distribution found") as raised:
        installer.run_installer("Fetching", arguments)
    assert "network" not in str(raised.value)


@pytest.mark.parametrize(
    "output",
    [
        # pip without a name server, behind a closed proxy and with a network that drops packets
        "WARNING: Retrying (Retry(total=4, ...)) after connection broken by 'NewConnectionError('<...>: Failed to "
        "establish a new connection: [Errno -2] Name or service not known')': /simple/uv/",
        "WARNING: Retrying (Retry(total=4, ...)) after connection broken by 'ProxyError('Cannot connect to proxy.')'",
        "WARNING: Retrying (Retry(total=4, ...)) after connection broken by 'ReadTimeoutError(...)': /simple/uv/",
        "error: Failed to fetch: `https://index/simple/torch/`\n  Caused by: dns error",  # uv
    ],
)
def test_installers_without_network(output: str) -> None:
    assert errors.is_no_network(output)


def test_macs_with_an_intel_processor() -> None:
    with pytest.raises(DevError, match=r"arm64.*COMFYUI_PATH.*no torch==.* for Macs with an Intel processor"):
        require_supported_platform("darwin", "x86_64")
    for system, machine in [("darwin", "arm64"), ("linux", "x86_64"), ("linux", "aarch64"), ("win32", "AMD64")]:
        require_supported_platform(system, machine)


def test_not_enough_space(tmp_path: Path) -> None:
    with pytest.raises(DevError, match=r"needs about 1000000 GiB, and .* GiB free"):
        errors.require_free_space(tmp_path, 1e6)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_disk_full_while_installing(installer: Environment) -> None:
    write_to_full_disk = "open('/dev/full', 'w', buffering=1).write('x' * 100000)"
    with pytest.raises(DevError, match="Free at least 8 GiB .* The disk is full: "):
        installer.run_installer("Copying", ["timeit", "-n", "1", "-r", "1", write_to_full_disk])


@pytest.mark.skipif(os.name == "nt", reason="Windows reports a full quota as a full disk")
def test_quota_is_a_full_disk(tmp_path: Path) -> None:
    assert errors.is_disk_full(OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)))
    assert not errors.is_disk_full(PermissionError(errno.EACCES, "Permission denied"))
    output = f"error: failed to write: {os.strerror(errno.EDQUOT)} (os error {errno.EDQUOT})"
    explained = errors.explain_failure("Installing", output, tmp_path / "log", tmp_path)
    assert "The disk is full" in str(explained) and "quota" in str(explained)


def test_other_failures_show_the_last_lines_and_the_log(installer: Environment) -> None:
    with pytest.raises(DevError, match=r"Compiling failed: .*No module named no_such_installer.*install\.log"):
        installer.run_installer("Compiling", ["no_such_installer"])
    assert "No module named" in installer.log.read_text(encoding="utf-8")


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
    environment = Environment(tmp_path, needed_gib=0)
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
    environment = Environment(tmp_path, needed_gib=0)
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
    oldest = hosts.own_requirements(tmp_path, "0.18.2")
    assert oldest[:2] == ["comfyui-frontend-package==1", "glfw"]
    assert oldest[2].startswith("transformers==4."), "the oldest host is tested with the transformers of its time"


def test_packages_of_a_host_follow_its_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in hosts.RELEASES:
        hosts.host_folder(tmp_path, version).mkdir(parents=True)
        (hosts.host_folder(tmp_path, version) / "requirements.txt").write_text("torch\n", encoding="utf-8")
    installed: list[list[str]] = []

    def install(what: str, arguments: list[str]) -> None:
        installed.append(arguments)
        hosts.packages_folder(tmp_path, "0.18.2").mkdir()

    environment = Environment(tmp_path)
    monkeypatch.setattr(environment, "uv_install", install)
    hosts.ensure_packages(environment, "0.18.2")
    hosts.ensure_packages(environment, "0.18.2")
    assert len(installed) == 1
    monkeypatch.setitem(hosts.OF_ITS_TIME, "0.18.2", ("transformers==4.50.3",))
    hosts.ensure_packages(environment, "0.18.2")
    assert installed[1][-1] == "transformers==4.50.3"


def test_editable_install_takes_the_model_code_alone(repository: Path) -> None:
    setup = "from setuptools import Distribution; d = Distribution(); d.parse_config_files(); print(*d.packages)"
    result = subprocess.run([sys.executable, "-c", setup], cwd=repository, capture_output=True, text=True, check=True)
    packages = result.stdout.split()
    assert {"sf_model", "sf_model.training", "sf_model.world"} <= set(packages)
    assert all(package.split(".")[0] == "sf_model" for package in packages)

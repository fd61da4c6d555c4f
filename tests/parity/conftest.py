"""Makes the real host importable in this process: COMFYUI_PATH_FOR_TESTS, or the newest host that dev.py installs."""

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

PACK = "spatialfusion_pack"
REPOSITORY = Path(__file__).resolve().parents[2]
HOST = Path(os.environ.get("COMFYUI_PATH_FOR_TESTS") or REPOSITORY / ".host" / "0.30.0" / "ComfyUI").resolve()


def import_host() -> None:
    """Import comfy on the CPU. It parses sys.argv when first imported, so pytest's own is put aside."""
    if not (HOST / "comfy").is_dir():
        raise FileNotFoundError(f"no ComfyUI at {HOST}; run `python3 dev.py test` or set COMFYUI_PATH_FOR_TESTS")
    sys.path.append(str(HOST))
    pytest_argv, sys.argv = sys.argv, ["main.py", "--cpu"]
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.model_management
    finally:
        sys.argv = pytest_argv
    assert Path(comfy.model_management.__file__).is_relative_to(HOST)


import_host()
# The oldest host has neither MoGe nor Depth Anything 3 to agree with.
collect_ignore = [] if importlib.util.find_spec("comfy.ldm.moge") else ["test_host_geometry.py", "test_da3_metres.py"]


def load_module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_bases() -> ModuleType:
    """The real models' tiny weights, written by the host's own classes."""
    return load_module("spatialfusion_tiny_bases", REPOSITORY / "tests" / "host" / "probe_nodes" / "tiny_bases.py")


@pytest.fixture(scope="session")
def host_nodes() -> None:
    """The host's own `nodes`, which its edit nodes import and which the pack's folder would hide."""
    if Path(getattr(sys.modules.get("nodes"), "__file__", "") or "") != HOST / "nodes.py":
        load_module("nodes", HOST / "nodes.py")


@pytest.fixture(scope="session")
def nodes() -> ModuleType:
    """The pack's nodes, imported under a name of its own as ComfyUI does it."""
    if PACK not in sys.modules:
        load_module(PACK, REPOSITORY / "__init__.py")
    return importlib.import_module(f"{PACK}.nodes")

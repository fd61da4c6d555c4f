"""Runs this folder's tests once more for the other supported host: two cannot be imported in one process."""

import os
import subprocess
import sys
from pathlib import Path

import comfy.model_management
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
HOST = Path(comfy.model_management.__file__).resolve().parents[1]
SUPPORTED_HOSTS = [REPOSITORY / ".host" / version / "ComfyUI" for version in ("0.18.2", "0.30.0")]


@pytest.mark.parametrize("host", [h for h in SUPPORTED_HOSTS if h.resolve() != HOST], ids=lambda h: h.parent.name)
def test_parity_with_host(host: Path) -> None:
    folder = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder), f"--ignore={__file__}"]
    result = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "COMFYUI_PATH_FOR_TESTS": str(host)},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"

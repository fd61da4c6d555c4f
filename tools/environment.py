"""The Python environment in .venv: made once, checked by a stamp, and made again after an interrupted install."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from .errors import DevError, explain_failure, is_no_network, require_free_space

# The newest matching versions. The newest host names them without versions.
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
EXTRAS = {"demo": (), "test": ("train", "test")}
NEEDED_GIB = 8.0


def say(text: str) -> None:
    """Print a line at once, in order with the output of child processes."""
    print(text, flush=True)


def require_supported_platform(system: str = sys.platform, machine: str = "") -> None:
    """DevError if TORCH has no build for this operating system (sys.platform) and processor (platform.machine)."""
    if system == "darwin" and (machine or platform.machine()) == "x86_64":
        raise DevError(
            "On a Mac with an Apple processor use a Python built for it (arm64). On an Intel Mac set COMFYUI_PATH to "
            "the folder of a ComfyUI that you already have; 'demo' runs in it. Nothing was installed, because there is "
            f"no {TORCH[0]} for Macs with an Intel processor."
        )


class Environment:
    """The virtual environment of one checkout, and its installers.

    needed_gib: free disk space that an installation needs.
    """

    def __init__(self, root: Path, needed_gib: float = NEEDED_GIB) -> None:
        self.root = root
        self.needed_gib = needed_gib
        self.folder = root / ".venv"
        self.python = self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self.log = root / ".host" / "logs" / "install.log"
        self._stamp = self.folder / ".dev-stamp.json"
        self._unfinished = self.folder / ".dev-unfinished"

    def create(self) -> None:
        """Make an empty environment, unless a working one is there. DevError."""
        if self._works() and not self._unfinished.exists():
            return
        require_free_space(self.root, self.needed_gib)
        say(f"Making a Python environment in {self.folder}")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.unlink(missing_ok=True)
        command = [sys.executable, "-m", "venv", "--clear", str(self.folder)]
        result = subprocess.run(command, capture_output=True, text=True, errors="replace")
        output = result.stdout + result.stderr
        if result.returncode and re.search("ensurepip|No module named venv", output):
            raise DevError(
                "On Debian and Ubuntu run 'apt install python3-venv'; elsewhere use a Python from python.org. This "
                "Python cannot make virtual environments: its venv module is not installed."
            )
        if result.returncode:
            raise explain_failure("Making the environment", output, self.log, self.root)

    def is_current(self, purpose: str, requirements: list[str]) -> bool:
        """Whether the packages for `purpose` ("demo" or "test") were installed from exactly these requirements."""
        if not self._works() or self._unfinished.exists() or not self._stamp.exists():
            return False
        stamps = json.loads(self._stamp.read_text(encoding="utf-8"))
        return stamps.get(purpose) == self._fingerprint(purpose, requirements)

    def install(self, purpose: str, requirements: list[str]) -> None:
        """Install torch, the host's requirements and the extras of `purpose`, unless they are current. DevError.

        `.dev-unfinished` is in the environment while packages are written. If it is left after an interrupted install,
        `create` starts from an empty environment (the downloads are cached).
        """
        if self.is_current(purpose, requirements):
            return
        require_free_space(self.root, min(self.needed_gib, 1.0) if self._stamp.exists() else self.needed_gib)
        say(f"Installing the packages for '{purpose}' (a first run downloads about 3 GB)")
        self._unfinished.touch()
        extras = [argument for extra in EXTRAS[purpose] for argument in ("--extra", extra)]
        project = ["-r", str(self.root / "pyproject.toml"), *extras] if extras else []
        self.uv_install("Installing the packages", [*TORCH, *requirements, *project])
        # "test" includes everything of "demo".
        done = {name: self._fingerprint(name, requirements) for name in EXTRAS if name in (purpose, "demo")}
        self._stamp.write_text(json.dumps(done), encoding="utf-8")
        self._unfinished.unlink()

    def uv_install(self, what: str, arguments: list[str]) -> None:
        """Run `uv pip install`, and install uv by pip first if needed. DevError."""
        has_uv = subprocess.run([str(self.python), "-m", "uv", "--version"], capture_output=True).returncode == 0
        if not has_uv:
            self.run_installer("Installing uv", ["pip", "install", "--quiet", "--disable-pip-version-check", "uv>=0.9"])
        self.run_installer(what, ["uv", "pip", "install", "--python", str(self.python), *arguments])

    def run_installer(self, what: str, module_and_arguments: list[str]) -> None:
        """Run `python -m ...` in the environment; print and log its output. DevError."""
        env = dict(os.environ, PYTHONUTF8="1")
        if "PIP_INDEX_URL" in env:  # one setting for both installers
            env.setdefault("UV_DEFAULT_INDEX", env["PIP_INDEX_URL"])
        self.log.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ python -m {' '.join(module_and_arguments)}\n")
            process = subprocess.Popen(
                [str(self.python), "-m", *module_and_arguments],
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
            with process:
                try:
                    for line in process.stdout or ():
                        lines.append(line)
                        log.write(line)
                        say("  " + line.rstrip())
                except BaseException:  # cancelled: stop the installation
                    process.terminate()
                    raise
        if process.returncode:
            output = "".join(lines)
            if is_no_network(output) and self._stamp.exists():
                self._unfinished.unlink(missing_ok=True)  # only a download failed
            raise explain_failure(what, output, self.log, self.root)

    def _works(self) -> bool:
        if not self.python.exists():
            return False
        check = [str(self.python), "-c", "import pip"]
        return subprocess.run(check, capture_output=True).returncode == 0

    def _fingerprint(self, purpose: str, requirements: list[str]) -> str:
        inputs = [*TORCH, *requirements, *EXTRAS[purpose]]
        if EXTRAS[purpose]:
            inputs.append(_extras_section(self.root / "pyproject.toml"))
        return hashlib.sha256("\n".join(inputs).encode()).hexdigest()


def _extras_section(pyproject: Path) -> str:
    """The text of [project.optional-dependencies]; Python 3.10 has no TOML parser."""
    text = pyproject.read_text(encoding="utf-8")
    found = re.search(r"^\[project\.optional-dependencies\]$(.*?)(?=^\[|\Z)", text, re.M | re.S)
    return found.group(1) if found else ""

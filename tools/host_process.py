"""Runs a ComfyUI server as a child process, with its own folders, a free port and a log, and always stops it."""

from __future__ import annotations

import errno
import http.client
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from .errors import DevError, is_disk_full

PACK_FOLDER = "ComfyUI-SpatialFusion"
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "DO_NOT_TRACK": "1"}
# Ignores http_proxy, which is not for servers on this machine.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# Linux kills the server (signal 9) when its parent dies in any way (prctl option 1, PR_SET_PDEATHSIG). The setting
# survives execv. A small program in between makes it, because Popen's preexec_fn can deadlock with threads.
_DIE_WITH_PARENT = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def free_port(wanted: int | None = None) -> int:
    """A free TCP port of this machine. wanted: this port, or DevError."""
    if wanted is not None and not 1 <= wanted <= 65535:
        raise DevError(f"Set --port from 1 to 65535, or leave it out to use a free one: it is {wanted}.")
    with socket.socket() as probe:
        if os.name != "nt":  # on Windows the option would let two servers share a port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except OSError as error:
            raise DevError(port_refusal(wanted or 0, error)) from None
        return probe.getsockname()[1]


def port_refusal(port: int, error: OSError) -> str:
    """The message for a port that the system refused."""
    if isinstance(error, PermissionError):
        why = f"you may not use port {port}. Ports below 1024 are for administrators, and the system may reserve others"
    elif error.errno == errno.EADDRINUSE:
        why = f"port {port} is taken by another program"
    else:
        why = f"port {port} cannot be used ({error})"
    return f"Leave --port out to use a free one, or set another: {why}."


def make_base_folder(base: Path, pack: Path | None) -> None:
    """Make a host's folders under `base`, and link `pack` (the repository), if any, into custom_nodes."""
    for name in ("models", "input", "output", "temp", "user", "custom_nodes"):
        (base / name).mkdir(parents=True, exist_ok=True)
    if pack is not None:
        link_folder(base / "custom_nodes" / PACK_FOLDER, pack)


def link_folder(link: Path, target: Path) -> None:
    """Make `link` a link to the folder `target`; replace any link that was there. DevError."""
    if link.exists() and link.resolve() == target.resolve():
        return
    if os.name == "nt":  # a junction needs no privilege; a symbolic link does
        if os.path.lexists(link):
            link.rmdir()
        make_junction(link, target)
        return
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(target, target_is_directory=True)
    except OSError as error:
        if is_disk_full(error):
            raise
        raise _no_link(link, target, str(error)) from None


def make_junction(link: Path, target: Path) -> None:
    """Make Windows' kind of link to a folder. DevError with the system's reason."""
    command = ["cmd", "/c", "mklink", "/J", str(link), str(target)]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if result.returncode:
        raise _no_link(link, target, (result.stderr or result.stdout).strip())


def _no_link(link: Path, target: Path, reason: str) -> DevError:
    return DevError(
        "Clone the repository onto a local disk whose file system has links (on Windows NTFS, not FAT or a network "
        f"drive): ComfyUI's custom_nodes needs a link from {link} to {target}, and it could not be made: {reason}."
    )


class HostProcess:
    """`with HostProcess(...) as host:` runs one server on 127.0.0.1, at `host.url`. Call `wait_ready` first.

    python: runs main.py of the folder `host`. base: folder for models, input, output and packs. log: file for its
    output. port: None for a free one. packages: folder that comes first on PYTHONPATH. arguments: more for main.py.
    """

    def __init__(
        self,
        python: Path,
        host: Path,
        base: Path,
        log: Path,
        *,
        port: int | None = None,
        packages: Path | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.port = free_port(port)
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._host = host
        self._process: subprocess.Popen[bytes] | None = None
        # The database is in memory: its default place is the host's own folder, which must not change.
        self._command = [str(python), str(host / "main.py"), "--port", str(self.port), "--base-directory", str(base)]
        self._command += ["--disable-auto-launch", "--disable-api-nodes", "--database-url", "sqlite:///:memory:"]
        self._command += arguments
        if sys.platform == "linux":
            self._command = [str(python), "-I", "-c", _DIE_WITH_PARENT, *self._command]
        self._env = dict(os.environ, PYTHONUTF8="1", PYTHONUNBUFFERED="1", NO_COLOR="1", **OFFLINE)
        # With small models on busy cores, threads that spin while they wait can take a hundred times longer.
        self._env.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if packages is not None:
            others = os.environ.get("PYTHONPATH")
            self._env["PYTHONPATH"] = os.pathsep.join([str(packages), *([others] if others else [])])

    def __enter__(self) -> HostProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._host,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C then reaches only dev.py, which stops the server.
                start_new_session=os.name != "nt",
            )

    def wait_ready(self, timeout_s: float = 180.0) -> None:
        """Wait until /system_stats answers. DevError with the end of the log if the server dies or does not answer."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if not self.alive:
                assert self._process is not None
                raise self.failure(f"ComfyUI stopped while starting (exit code {self._process.returncode})")
            if self._answers():
                return
            time.sleep(0.1)
        raise self.failure(f"ComfyUI did not answer within {timeout_s:.0f} s of its start")

    def stop(self) -> None:
        """Terminate the server, and kill it after 10 s. May be called at any time."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def log_text(self) -> str:
        return _ANSI.sub("", self.log.read_text(encoding="utf-8", errors="replace"))

    def failure(self, what: str) -> DevError:
        """A DevError with `what`, the log's last 20 lines and its path."""
        lines = self.log_text().rstrip().splitlines()[-20:]
        text = "\n".join("  | " + line for line in lines) or "  | (it printed nothing)"
        return DevError(f"{what}. The last lines of its log ({self.log}):\n{text}")

    def _answers(self) -> bool:
        try:
            with DIRECT.open(self.url + "/system_stats", timeout=5) as response:
                return response.status == 200
        except (OSError, http.client.HTTPException):
            return False

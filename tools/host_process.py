"""A ComfyUI server as a child process: isolated folders, a free port, a log that is kept, and always stopped."""

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
# http_proxy is not for servers on this machine.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# Linux ends the server (signal 9) when its parent dies, however that dies (prctl's option 1, PR_SET_PDEATHSIG). The
# request survives execv. It is made by a small program in between: Popen's preexec_fn can deadlock with threads.
_DIE_WITH_PARENT = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def free_port(wanted: int | None = None) -> int:
    """A free TCP port of this machine; DevError if a particular one is `wanted` and cannot be had."""
    if wanted is not None and not 1 <= wanted <= 65535:
        raise DevError(f"{wanted} is no port: ports are 1 to 65535. Leave --port out to have a free one chosen.")
    with socket.socket() as probe:
        if os.name != "nt":  # there the option would let two servers share a port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except OSError as error:
            raise DevError(port_refusal(wanted or 0, error)) from None
        return probe.getsockname()[1]


def port_refusal(port: int, error: OSError) -> str:
    """What to tell about a port that the system did not give."""
    if isinstance(error, PermissionError):
        why = f"You may not use port {port}: ports below 1024 are for administrators, and a system may keep others"
    elif error.errno == errno.EADDRINUSE:
        why = f"Port {port} is taken by another program"
    else:
        why = f"Port {port} cannot be had ({error})"
    return f"{why}. Leave --port out to have a free one chosen, or name another."


def make_base_folder(base: Path, pack: Path | None) -> None:
    """Make a host's folders under `base`, and link `pack` (the repository), if any, into custom_nodes. Idempotent."""
    for name in ("models", "input", "output", "temp", "user", "custom_nodes"):
        (base / name).mkdir(parents=True, exist_ok=True)
    if pack is not None:
        link_folder(base / "custom_nodes" / PACK_FOLDER, pack)


def link_folder(link: Path, target: Path) -> None:
    """Make `link` lead to the folder `target`, in place of whatever link was there. Raises DevError."""
    if link.exists() and link.resolve() == target.resolve():
        return
    if os.name == "nt":  # a junction needs no privilege, a symbolic link does
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
    """Windows' link to a folder. DevError with the system's reason."""
    command = ["cmd", "/c", "mklink", "/J", str(link), str(target)]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if result.returncode:
        raise _no_link(link, target, (result.stderr or result.stdout).strip())


def _no_link(link: Path, target: Path, reason: str) -> DevError:
    return DevError(
        f"The pack is linked into ComfyUI's custom_nodes, but {link} could not be made to lead to {target}: {reason}. "
        "Both must be on local disks whose file system has links (on Windows NTFS, not FAT or a network drive): clone "
        "the repository onto such a disk."
    )


class HostProcess:
    """`with HostProcess(...) as host:` runs one server on 127.0.0.1; `host.url` answers inside the block."""

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
        # The database in memory: its default place is the host's own folder, which is never written to.
        self._command = [str(python), str(host / "main.py"), "--port", str(self.port), "--base-directory", str(base)]
        self._command += ["--disable-auto-launch", "--disable-api-nodes", "--database-url", "sqlite:///:memory:"]
        self._command += arguments
        if sys.platform == "linux":
            self._command = [str(python), "-I", "-c", _DIE_WITH_PARENT, *self._command]
        self._env = dict(os.environ, PYTHONUTF8="1", PYTHONUNBUFFERED="1", NO_COLOR="1", **OFFLINE)
        # Small models on a few busy cores: threads that spin while they wait cost up to a hundred times the work.
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
                # Ctrl-C reaches dev.py alone, which then stops the server in order.
                start_new_session=os.name != "nt",
            )

    def wait_ready(self, timeout_s: float = 180.0) -> None:
        """Return once /system_stats answers. DevError with the log's end where the server dies or stays silent."""
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
        """End the server: politely, then by force. Safe to call at any time."""
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
        """A DevError that says `what` and shows the log's last 20 lines and where the rest is."""
        lines = self.log_text().rstrip().splitlines()[-20:]
        shown = "\n".join("  | " + line for line in lines) or "  | (it printed nothing)"
        return DevError(f"{what}. The last lines of its log ({self.log}):\n{shown}")

    def _answers(self) -> bool:
        try:
            with DIRECT.open(self.url + "/system_stats", timeout=5) as response:
                return response.status == 200
        except (OSError, http.client.HTTPException):
            return False

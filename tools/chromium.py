"""Finds the browser for the front-end tests, or installs one."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from .environment import say
from .errors import DevError

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge", "msedge", "chrome")
_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
ASK_PLAYWRIGHT = """
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    print(playwright.chromium.executable_path)
"""


def find_chromium(python: Path) -> Path | None:
    """The path of a working Chromium, Chrome or Edge: an installed one, else playwright's, else None."""
    installed = [Path(found) for name in _NAMES if (found := shutil.which(name))]
    installed += [Path(place) for place in _PLACES if Path(place).exists()]
    return next((path for path in installed if _runs(path)), None) or _playwrights_own(python)


def require_chromium(python: Path) -> Path:
    """As `find_chromium`, but DevError if there is none."""
    found = find_chromium(python)
    if found is None:
        raise DevError(
            "Install Chromium, Chrome or Edge (Debian: 'sudo apt install chromium'; Ubuntu: 'sudo .venv/bin/python -m "
            "playwright install-deps chromium'; macOS: 'brew install --cask chromium'; on Windows Edge is enough) and "
            "run 'dev.py test' again. The tests run the real front end in a browser, and no Chromium, Chrome or Edge "
            "that runs was found."
        )
    return found


def ensure_chromium(python: Path) -> Path:
    """Find a browser or install one: Debian's package if this is root, else playwright's. DevError."""
    if find_chromium(python) is None:
        if _is_root_of("debian"):
            say("Installing Chromium")
            subprocess.run(["apt-get", "update", "-q"], check=False)
            subprocess.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", "chromium"], check=False)
        if find_chromium(python) is None:
            say("Installing playwright's Chromium")
            # Ubuntu's own package needs snap. Its other packages have the libraries that Chromium needs.
            libraries = ["--with-deps"] if _is_root_of("ubuntu") else []
            subprocess.run([str(python), "-m", "playwright", "install", *libraries, "chromium"], check=False)
    return require_chromium(python)


def _runs(browser: Path) -> bool:
    """Whether it starts. Ubuntu's `chromium` does nothing without snap, and libraries may be missing."""
    if os.name == "nt":  # on Windows --version opens a window
        return True
    try:
        result = subprocess.run([str(browser), "--version"], capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return result.returncode == 0


def _playwrights_own(python: Path) -> Path | None:
    """The Chromium that playwright downloaded, if it runs."""
    # In another process: playwright may already run in this one, or this Python may lack it.
    result = subprocess.run([str(python), "-c", ASK_PLAYWRIGHT], capture_output=True, text=True)
    path = Path(result.stdout.strip())
    return path if result.returncode == 0 and path.is_file() and _runs(path) else None


def _is_root_of(distribution: str) -> bool:
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    try:
        return platform.freedesktop_os_release()["ID"] == distribution
    except OSError:
        return False

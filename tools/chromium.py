"""Where the browser for the front-end tests is, and how to get one."""

from __future__ import annotations

import os
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


def find_chromium() -> Path | None:
    """The path of an installed Chromium, Chrome or Edge."""
    for name in _NAMES:
        found = shutil.which(name)
        if found:
            return Path(found)
    return next((Path(place) for place in _PLACES if Path(place).exists()), None)


def ensure_chromium() -> Path:
    """Find a browser; on Debian and Ubuntu as root, install one. DevError that says how, otherwise."""
    found = find_chromium()
    if found is None and _may_use_apt():
        say("Installing Chromium")
        subprocess.run(["apt-get", "update", "-q"], check=False)
        subprocess.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", "chromium"], check=False)
        found = find_chromium()
    if found is None:
        raise DevError(
            "The tests drive the real front end in a browser, and no Chromium, Chrome or Edge was found. Install one "
            "of them (Debian: 'sudo apt install chromium'; macOS: 'brew install --cask chromium'; on Windows Edge is "
            "enough) and run the same command again."
        )
    return found


def _may_use_apt() -> bool:
    return sys.platform == "linux" and os.geteuid() == 0 and shutil.which("apt-get") is not None

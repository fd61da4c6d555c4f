"""The pack's settings in the host's settings dialog (web/js/settings.js), as a node reads them while it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import folder_paths

SHOW_DEPTH = "SpatialFusion.ShowDepth"


def shows_depth() -> bool:
    """Whether nodes that make a depth show it. Inspect Metric Depth and Save Metric Depth always do.

    A run does not say who started it. So with several users (--multi-user) it is always on.
    """
    return _settings().get(SHOW_DEPTH, True) is not False


def _settings() -> dict[str, Any]:
    """What the front end has stored for the host's only user."""
    path = Path(folder_paths.get_user_directory()) / "default" / "comfy.settings.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # none yet, or half written
        return {}
    return settings if isinstance(settings, dict) else {}

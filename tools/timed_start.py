"""Starts a host as main.py does, until it would serve, and measures the loading time of each pack. For bench_import.

Run it with the host's Python in the host's folder, with the arguments of main.py. The last printed line is JSON:
{"total_s": ..., "packs": {folder name: {"seconds": ..., "loaded": true, "modules": [new modules]}}}.
The host prints these seconds too, but with one decimal.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any


def start() -> dict[str, Any]:
    """Start the host in this process. Returns the measurements."""
    began = time.perf_counter()
    sys.path.insert(0, str(Path.cwd()))
    # The host's modules, not this repository's with the same names.
    main, nodes = importlib.import_module("main"), importlib.import_module("nodes")
    packs: dict[str, dict[str, Any]] = {}
    load = nodes.load_custom_node

    async def timed_load(module_path: str, *arguments: Any, **options: Any) -> bool:
        before, began = set(sys.modules), time.perf_counter()
        loaded = await load(module_path, *arguments, **options)
        seconds = time.perf_counter() - began
        if "custom_nodes" in Path(module_path).parts:
            modules = sorted(set(sys.modules) - before)
            packs[Path(module_path).name] = {"seconds": seconds, "loaded": loaded, "modules": modules}
        return loaded

    nodes.load_custom_node = timed_load
    main.start_comfyui()
    return {"total_s": time.perf_counter() - began, "packs": packs}


if __name__ == "__main__":
    print("\n" + json.dumps(start()), flush=True)

"""A run's settings and code versions (<run>/config.json), and its log (log.jsonl)."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from .revision import current_commit

CONFIG_FILE = "config.json"
LOG_FILE = "log.jsonl"
# Settings that may change between the sessions of a run: they do not change its result.
FREE_SETTINGS = {
    "loop": {"log_every", "save_every", "sheet_every", "workers", "micro_batch", "gradient_checkpointing", "compile"},
}

# Where a run ends, and where its rate begins to fall.
END_SETTINGS = {"steps", "decay_steps"}


class RunError(ValueError):
    """A run cannot continue as asked. The message says what to do and why."""


def begin_session(run_dir: Path, from_step: int, **settings: Any) -> None:
    """Note a new session of a run. RunError if `settings` (dataclasses by name) differ from those it began with."""
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / CONFIG_FILE
    asked = json.loads(json.dumps({name: _plain(value) for name, value in settings.items()}))
    record = {"settings": asked, "sessions": []}
    if from_step > 0:
        record = json.loads(path.read_text(encoding="utf-8"))
        _check_same(run_dir, record["settings"], asked, from_step)
        for group, names in (("loop", END_SETTINGS), ("data", {"late"})):
            for name in names & asked.get(group, {}).keys():
                record["settings"][group][name] = asked[group][name]
    _drop_log_after(run_dir, from_step)
    record["sessions"].append({"commit": current_commit(), "from_step": from_step, "started": round(time.time())})
    _write_whole(path, json.dumps(record, indent=1))


def summary(run_dir: Path) -> dict[str, Any]:
    """Settings, commits and length of a run, for the metadata of what is exported from it."""
    record = json.loads((run_dir / CONFIG_FILE).read_text(encoding="utf-8"))
    settings = record["settings"]
    steps = [entry for entry in _log(run_dir) if "loss" in entry]
    return {
        "commits": [session["commit"] for session in record["sessions"]],
        "seed": settings["loop"]["seed"],
        "steps": steps[-1]["step"] if steps else 0,
        "batch_size": settings["loop"]["batch_size"],
        "learning_rate": settings["loop"]["learning_rate"],
        "ema_decay": settings["loop"]["ema_decay"],
        **settings["stage"],
        "start": settings["start"],
    }


def append_log(run_dir: Path, entry: Mapping[str, Any]) -> None:
    with (run_dir / LOG_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(dict(entry)) + "\n")


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _check_same(run_dir: Path, before: dict[str, Any], asked: dict[str, Any], from_step: int) -> None:
    """What lies ahead can be changed: the end of a run until its rate begins to fall, its late settings until then."""
    loops = [settings.get("loop", {}) for settings in (before, asked)]
    constant = min(loop.get("steps", 0) - loop.get("decay_steps", 0) for loop in loops)
    end = END_SETTINGS if from_step <= constant else set()
    late = [(settings.get("data", {}).get("late") or {}).get("from_step", math.inf) for settings in (before, asked)]
    ahead = {"loop": end, "data": {"late"} if from_step <= min(late) else set()}
    differing = [
        f"{group}.{name}: {before.get(group, {}).get(name)!r} before, {value!r} now"
        for group, values in asked.items()
        for name, value in values.items()
        if name not in FREE_SETTINGS.get(group, set()) | ahead.get(group, set())
        and not _is_same_field(before.get(group, {}), name, value)
    ]
    if differing:
        raise RunError(f"give the settings that {run_dir} was begun with, or another --runs: {'; '.join(differing)}")


def _is_same(before: Any, now: Any) -> bool:
    if not isinstance(before, dict) or not isinstance(now, dict):
        return before == now
    return before.keys() <= now.keys() and all(_is_same_field(before, name, value) for name, value in now.items())


def _is_same_field(before: dict[str, Any], name: str, now: Any) -> bool:
    """A field that `before` lacks is the same if it is off now: an earlier version began the run without it."""
    return _is_same(before[name], now) if name in before else now in (None, False)


def _log(run_dir: Path) -> list[dict[str, Any]]:
    path = run_dir / LOG_FILE
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    # A killed session may have left half a line at the end.
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _drop_log_after(run_dir: Path, step: int) -> None:
    """A resumed run repeats the steps after its last saved state, and logs them again."""
    if (run_dir / LOG_FILE).exists():
        kept = [json.dumps(entry) + "\n" for entry in _log(run_dir) if entry["step"] <= step]
        _write_whole(run_dir / LOG_FILE, "".join(kept))


def _write_whole(path: Path, text: str) -> None:
    """A kill at any moment leaves the old file or the new one."""
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)

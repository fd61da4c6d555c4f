"""The scene editor's copy of the named shapes and of the table of sizes, web/editor_data.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sf_model.scaffold.shapes import shapes_as_json
from sf_model.scaffold.sizes import size_table

FILE = "web/editor_data.json"
# With fewer, faces that touch come apart in some pixels.
_DECIMALS = 12


def editor_data(root: Path) -> dict[Path, str]:
    """{file: its text}.

    {"version": 1, "shapes": as in `shapes_as_json`, "things": [{"name", "synonyms", "shape", "size_m"}, ...]}.
    """
    data = shapes_as_json()
    shapes = ",\n".join(f"{_json(name)}:{_json(_rounded(shape))}" for name, shape in data["shapes"].items())
    rows = ({"name": r.name, "synonyms": r.synonyms, "shape": r.shape, "size_m": r.size_m} for r in size_table())
    things = ",\n".join(map(_json, rows))
    text = f'{{"version":{data["version"]},\n"shapes":{{\n{shapes}\n}},\n"things":[\n{things}\n]}}\n'
    return {root / FILE: text}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        rounded = round(value, _DECIMALS) + 0.0
        return int(rounded) if rounded.is_integer() else rounded
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, (list, tuple)) else value

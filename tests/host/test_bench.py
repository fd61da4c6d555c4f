"""`dev.py bench` at its smallest size: every figure that it promises is there. The figures themselves mean nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tools import hosts

KINDS = {"omnigen2": {"without", "SpatialFusion"}}
KINDS["qwen_image"] = KINDS["omnigen2"] | {"DiffSynth depth ControlNet"}
FIGURES = {"seconds", "time_ratio", "time_ratios", "peak_bytes", "peak_ratio", "added_parameters"}
# What docs/adding_a_base.md says: parameters added and of the bases' transformers and language models.
FULL_SIZE = {"omnigen2": (212_441_716, 7_053_100_088), "qwen_image": (453_818_484, 27_501_020_224)}
# A sampled depth's, and the mean's.
FLOPS_SHARES = {"omnigen2": ["0.47%", "0.05%"], "qwen_image": ["0.18%", "0.02%"]}


def test_bench(repository: Path, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    host = hosts.host_folder(repository, hosts.NEWEST.version)
    command = [sys.executable, str(repository / "dev.py"), "bench", "--size", "tiny", "--repeats", "1"]
    env = {**os.environ, "COMFYUI_PATH": str(host)}
    result = subprocess.run([*command, "--json", str(file)], env=env, capture_output=True, text=True, timeout=580)
    assert result.returncode == 0, result.stdout + result.stderr
    figures = json.loads(file.read_text(encoding="utf-8"))
    assert figures == json.loads(result.stdout.split("```json")[1].split("```")[0])
    assert figures["environment"].keys() == {"commit", "date", "comfyui", "torch", "device", "size"}
    assert (figures["environment"]["comfyui"], figures["environment"]["size"]) == (hosts.NEWEST.version, "tiny")
    assert "TINY" in result.stdout and "| qwen_image, 64 px, 2 steps" in result.stdout
    assert {base["base"]: set(base["kinds"]) for base in figures["bases"]} == KINDS
    for base in figures["bases"]:
        for kind, measured in base["kinds"].items():
            assert measured.keys() == FIGURES
            assert len(measured["time_ratios"]) == base["repeats"] == 1
            assert min(measured["seconds"], measured["time_ratio"], measured["peak_bytes"]) > 0
            assert (measured["added_parameters"] > 0) == (kind != "without")
        full = base["full_size"]
        assert (full["added_parameters"], full["base_parameters"]) == FULL_SIZE[base["base"]]
        shares = [f"{100 * full[name]:.2f}%" for name in ("added_flops_share", "mean_flops_share")]
        assert shares == FLOPS_SHARES[base["base"]]

"""A folder of tiny training images with captions and depth, good and bad, and a config that trains on it in seconds."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from sf_model.config import dataclass_from_dict
from sf_model.training.settings import SETTINGS_VERSION, StageSettings
from tests.training import tiny_bases

# (width, height) of good images: both buckets of AREA_PX.
SIZES = ((64, 64), (96, 48), (70, 70), (64, 64), (100, 50), (64, 64), (64, 64), (96, 48))
AREA_PX = 64 * 64
LOOP = {
    "steps": 4,
    "batch_size": 2,
    "micro_batch": 2,
    "matrix_rate": None,
    "learning_rate": 0.001,
    "warmup_steps": 1,
    "decay_steps": 2,
    "weight_decay": 0.01,
    "gradient_clip": 1.0,
    "ema_decay": 0.9,
    "seed": 0,
    "mixed_precision": "no",
    "gradient_checkpointing": False,
    "compile": False,
    "workers": 0,
    "log_every": 1,
    "save_every": 2,
    "sheet_every": 4,
}
DEPTH = {"flow": 0.6, "time_mean": -0.8, "time_std": 1.2, "prompt_dropout": 0.3, "draws": 1, "layout_dropout": 0.0}
DIFFUSION = {
    "time_mean": 0.0,
    "time_std": 1.0,
    "caption_dropout": 0.3,
    "depth_dropout": 0.2,
    "joint_dropout": 0.1,
    "draws": 1,
}
FUSION = {
    "depth_weight": 0.5,
    "true_depth": 0.0,
    "freeze_predictor": False,
    "lora_rank": None,
    "lora_alpha": 8.0,
}
STAGE1 = {"loop": LOOP, "world": None, "diffusion": None, "depth": DEPTH, "fusion": None, "documents": None}
STAGE2 = {"loop": LOOP, "world": None, "diffusion": DIFFUSION, "depth": DEPTH, "fusion": FUSION, "documents": None}


def stage_settings(name: str, **changes: Any) -> StageSettings:
    """Of stage1 or stage2; `changes` are `group__field=value`."""
    values = copy.deepcopy(STAGE1 if name == "stage1" else STAGE2)
    _change(values, changes)
    return dataclass_from_dict(StageSettings, values, name)


def _change(values: dict[str, Any], changes: dict[str, Any]) -> None:
    for path, value in changes.items():
        *groups, field = path.split("__")
        group = values
        for name in groups:
            group = group[name]
        group[field] = value


def save_depth(path: Path, depth_m: np.ndarray, fov_y_deg: float = 50.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, depth_m=depth_m.astype(np.float32), fov_y_deg=np.float32(fov_y_deg))


def write_images(folder: Path, edits: bool = False, times: int = 1) -> None:
    """<folder>/images with captions (and, for every second one, a source image) and <folder>/depth: SIZES so many
    times."""
    rng = np.random.default_rng(0)
    images = folder / "images"
    images.mkdir(parents=True)
    rows = []
    for index, (width, height) in enumerate(SIZES * times):
        name = f"{index:02d}"
        smooth = rng.random((4, 4, 3)) * 255
        Image.fromarray(smooth.astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC).save(
            images / f"{name}.png"
        )
        depth = np.linspace(1 + index, 3 + index, height // 2)[:, None].repeat(width // 2, 1)
        depth[: height // 8] = np.inf
        save_depth(folder / "depth" / f"{name}.npz", depth)
        row = {"file_name": f"{name}.png", "text": f"a red car {index + 1} m away"}
        if edits and index % 2:
            Image.fromarray(smooth[::-1].astype(np.uint8)).resize((width, height)).save(images / f"{name}_before.png")
            row["source"] = f"{name}_before.png"
        rows.append(row)
    (images / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def add_bad_images(folder: Path) -> dict[str, int]:
    """One sample of every kind of problem; returns what `cache` must count."""
    images, depth = folder / "images", folder / "depth"
    good = Image.new("RGB", (64, 64), (200, 30, 30))
    rows = []
    for name in ("no_depth", "nan", "torn_depth", "all_sky", "other_size", "tiny", "silent", "truncated", "text"):
        (Image.new("RGB", (20, 20)) if name == "tiny" else good).save(images / f"{name}.png")
        save_depth(depth / f"{name}.npz", np.ones((64, 64)))
        rows.append({"file_name": f"{name}.png", "text": "" if name == "silent" else "a chair"})
    rows.append({"file_name": "gone.png", "text": "a chair"})
    (depth / "no_depth.npz").unlink()
    save_depth(depth / "nan.npz", np.where(np.eye(64) > 0, np.nan, 1.0))
    save_depth(depth / "all_sky.npz", np.full((64, 64), np.inf))
    save_depth(depth / "other_size.npz", np.ones((32, 64)))
    (depth / "torn_depth.npz").write_bytes((depth / "nan.npz").read_bytes()[:100])
    (images / "truncated.png").write_bytes((images / "truncated.png").read_bytes()[:60])
    (images / "text.png").write_text("not an image", encoding="utf-8")
    with (images / "metadata.jsonl").open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "missing_depth": 1,
        "nan_depth": 1,
        "bad_depth": 1,
        "empty_depth": 1,
        "depth_size": 1,
        "too_small": 1,
        "missing_caption": 1,
        "unreadable_image": 3,
    }


def write_config(folder: Path, base: str, weights: dict[str, Path], edits: bool, **changes: Any) -> Path:
    """A config file; `changes` are `section__field=value`, or `stage__group__field=value`."""
    spatial = folder / "spatial.json"
    config = tiny_bases.spatial_config(base, source=edits)
    spatial.write_text(json.dumps(dataclasses.asdict(config)), encoding="utf-8")
    values: dict[str, Any] = {
        "version": SETTINGS_VERSION,
        "base": base,
        "runs": str(folder / "runs"),
        "starts": {},
        "system": None,
        "weights": {name: str(path) for name, path in weights.items() if name != "vision"}
        | {"vision": str(weights["vision"]) if edits else None, "dtype": "float32"},
        "spatial": {"config": str(spatial), "from_mllm": False},
        "label": {"teacher": None, "fov_y_deg": 50.0, "sky_above_m": 1000.0, "assume_metric": False},
        "data": {
            "kind": "folder",
            "path": str(folder / "images"),
            "depth": str(folder / "depth"),
            "prepared": str(folder / "prepared"),
            "area_px": AREA_PX,
            "bucket_step": 16,
            "max_aspect": 2.0,
            "max_upscale": 1.5,
            "depth_downscale": 2,
            "validation_samples": 2,
            "problems": "skip",
            "cache": "latents",
            "samples_per_shard": 3,
            "max_gb": 1.0,
        },
        "autoencoder": None,
        "language": None,
        "image": None,
        "source": None,
        "stage1": copy.deepcopy(STAGE1),
        "stage2": copy.deepcopy(STAGE2),
    }
    _change(values, changes)
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    return file

"""`label`: metric depth of every image of a source by a teacher, one .npz an image, as Save Metric Depth writes them.

The teacher is any `transformers` depth-estimation model whose depth is metric (Depth Pro, ZoeDepth, Depth Anything's
Metric models), from a local folder. Depth that ComfyUI's MoGe nodes measured needs no labels: Save Metric Depth writes
the same files. Images that have a depth file are skipped, so a killed run can continue. With `accelerate launch` it
runs on all GPUs.
"""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate.utils import gather_object
from PIL import Image
from tqdm import tqdm

from ...depth.metric_depth import MetricDepth
from ...files.atomic import written_whole
from ...files.writing import npz_bytes
from ..process_state import process_state
from ..settings import TrainingSettings
from .samples import SampleProblem
from .sources import depth_path, open_source
from .store import write_text

FAILED_FILE = "failed.jsonl"
METRIC_MODELS = ("depth_pro", "zoedepth")
# This field of Depth Anything's config says whether its depth is metric.
METRIC_BY_CONFIG = "depth_estimation_type"
EXIF_FOCAL_35MM, EXIF_IFD, EXIF_ORIENTATION = 0xA405, 0x8769, 0x0112
# Orientations of pictures that are stored rotated by 90 degrees.
LYING = (5, 6, 7, 8)
DIAGONAL_35MM = math.hypot(36.0, 24.0)


class Teacher(Protocol):
    """Labels an image (3, H, W) uint8 with a depth (1, H, W). `fov_y_deg` is for teachers that give no camera."""

    def label(self, rgb: torch.Tensor, fov_y_deg: float | None) -> MetricDepth: ...


class TransformersTeacher:
    """A depth-estimation model of transformers, from a local folder."""

    def __init__(self, folder: Path, sky_above_m: float, assume_metric: bool, device: torch.device) -> None:
        from transformers import AutoImageProcessor, AutoModelForDepthEstimation

        if not (folder / "config.json").is_file():
            raise ValueError(f"label.teacher: {folder} is no transformers model folder (no config.json)")
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if not (assume_metric or is_metric(config)):
            raise ValueError(
                f"{folder} is a {config.get('model_type')!r} model whose depth is not known to be in metres; choose "
                "Depth Pro, ZoeDepth or a Depth Anything Metric model, or set label.assume_metric if you know better"
            )
        self.processor = AutoImageProcessor.from_pretrained(str(folder), local_files_only=True)
        self.model = AutoModelForDepthEstimation.from_pretrained(str(folder), local_files_only=True)
        self.model = self.model.eval().requires_grad_(False).to(device)
        self.sky_above_m = sky_above_m

    @torch.no_grad()
    def label(self, rgb: torch.Tensor, fov_y_deg: float | None) -> MetricDepth:
        """SampleProblem if neither the model nor `fov_y_deg` gives the camera, or the depth is unusable."""
        height, width = rgb.shape[-2:]
        inputs = self.processor(images=rgb.permute(1, 2, 0).numpy(), return_tensors="pt").to(self.model.device)
        output = self.model(**inputs)
        sizes = {"target_sizes": [(height, width)]}
        if "source_sizes" in self.processor.post_process_depth_estimation.__code__.co_varnames:
            sizes["source_sizes"] = [(height, width)]
        result = self.processor.post_process_depth_estimation(output, **sizes)[0]
        depth = result["predicted_depth"].float().cpu().reshape(height, width)
        # Depth Pro's field of view is the horizontal one.
        across = result.get("field_of_view")
        if across is not None:
            fov_y_deg = vertical_fov_deg(float(across), height, width)
        if fov_y_deg is None or not 0 < fov_y_deg < 180:
            raise SampleProblem(
                "unknown_camera", "neither the teacher nor EXIF tells the field of view; set label.fov_y_deg"
            )
        if torch.isnan(depth).any() or (depth <= 0).any():
            raise SampleProblem("bad_depth", "the teacher gave NaN or no positive depth")
        depth = torch.where(depth >= self.sky_above_m, torch.inf, depth)[None]
        return MetricDepth(depth, torch.ones_like(depth), torch.tensor([fov_y_deg]))


def is_metric(config: Mapping[str, Any]) -> bool:
    """Whether a model's config.json says that its depth is in metres."""
    return config.get("model_type") in METRIC_MODELS or config.get(METRIC_BY_CONFIG) == "metric"


def vertical_fov_deg(horizontal_deg: float, height: int, width: int) -> float:
    return math.degrees(2 * math.atan(math.tan(math.radians(horizontal_deg) / 2) * height / width))


def exif_fov_y_deg(image: bytes) -> float | None:
    """The field of view from EXIF's 35 mm focal length, by the picture's diagonal. None without such an entry."""
    try:
        with Image.open(io.BytesIO(image)) as picture:
            exif = picture.getexif()
            focal_mm = exif.get_ifd(EXIF_IFD).get(EXIF_FOCAL_35MM)
            width, height = picture.size
            if exif.get(EXIF_ORIENTATION) in LYING:
                width, height = height, width
    except (OSError, SyntaxError, ValueError):
        return None
    if not focal_mm:
        return None
    height_mm = DIAGONAL_35MM * height / math.hypot(width, height)
    return math.degrees(2 * math.atan(height_mm / 2 / float(focal_mm)))


def save_label(path: Path, depth: MetricDepth) -> None:
    """Write the file of Save Metric Depth, completely or not at all."""
    with written_whole(path) as partial:
        partial.write_bytes(npz_bytes(depth, 0))


def label_all(
    samples: Any,
    teacher: Teacher,
    folder: Path,
    default_fov_y_deg: float | None,
    rank: int = 0,
    world: int = 1,
) -> tuple[Counter[str], list[dict[str, str]]]:
    """Label every `world`-th sample from `rank` on that has no depth file. Returns counts, and the failures by name."""
    counts: Counter[str] = Counter()
    failed: list[dict[str, str]] = []
    seen: set[str] = set()
    for number, sample in enumerate(tqdm(samples, desc="labels", disable=rank != 0, mininterval=5)):
        key = sample.key or f"sample {number}"
        is_repeated = key in seen
        seen.add(key)
        if number % world != rank:
            continue
        try:
            if isinstance(sample, SampleProblem):
                raise sample
            if is_repeated:
                raise SampleProblem("same_name", "another image has this name, and so its depth file; rename one")
            if depth_path(folder, key):
                counts["there already"] += 1
                continue
            hint = exif_fov_y_deg(sample.image) or default_fov_y_deg
            save_label(folder / f"{key}.npz", teacher.label(sample.rgb(), hint))
            counts["labelled"] += 1
        except SampleProblem as problem:
            counts[f"failed: {problem.kind}"] += 1
            failed.append({"key": key, "kind": problem.kind, "message": str(problem)})
    return counts, failed


def label_samples(settings: TrainingSettings) -> None:
    """The `label` command: writes the depth of the config's data to data.depth. Every process does its share."""
    data, label = settings.data, settings.label
    if data is None:
        raise ValueError("label is for images on disk; this config's data is the synthetic world, which has its depth")
    if data.depth is None:
        raise ValueError("data.depth is null: name the folder that the depth files go to")
    if label is None or label.teacher is None:
        raise ValueError("label.teacher is null: name the folder of a metric depth model, such as Depth Pro's")
    state = process_state()
    folder = Path(data.depth)
    found = label_all(
        open_source(data.kind, data.path, data.depth).samples(0),
        TransformersTeacher(Path(label.teacher), label.sky_above_m, label.assume_metric, state.device),
        folder,
        label.fov_y_deg,
        state.process_index,
        state.num_processes,
    )
    shares = gather_object([found])
    if not state.is_main_process:
        return
    counts = sum((share for share, _ in shares), Counter())
    failed = sorted((entry for _, entries in shares for entry in entries), key=lambda entry: entry["key"])
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / FAILED_FILE, "".join(json.dumps(entry) + "\n" for entry in failed))
    print(f"{data.depth}: {', '.join(f'{count} {what}' for what, count in sorted(counts.items())) or 'no images'}")

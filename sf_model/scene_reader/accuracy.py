"""How well the scene reader reads renders that it has not seen, clean and degraded."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch

from ..depth import metrics as depth_metrics
from ..world.geometry import angle_between_deg, camera_distance_m
from ..world.scene import Scene, SceneObject
from .augment import degrade
from .data import Batch, rendered, sample_scenes
from .decode import decode, read
from .network import SceneReader
from .reading import MAX_MATCH_DEG, CameraReading, FoundObject, SceneReading, on_ground, sight_angle_deg, true_object

ACCURACY_STREAM = "accuracy"
# Renders for the reader's accuracy in the report of a benchmark.
READER_IMAGES = 500


@dataclass(frozen=True)
class ReaderAccuracy:
    """Shares in [0, 1], and medians of errors: over the objects that were found, or (camera) over the images."""

    objects_found: float
    found_that_exist: float
    category_right: float
    color_right: float
    position_error_m: float
    position_error_relative: float
    distance_error_relative: float
    size_error_relative: float
    heading_error_deg: float
    heading_within_30: float
    pitch_error_deg: float
    fov_error_deg: float
    depth_abs_rel: float


def match(scene: Scene, reading: SceneReading) -> list[tuple[SceneObject, FoundObject]]:
    """Pairs of a true and a found object. The nearest directions are matched first; each object is used once."""
    truth = [true_object(obj, scene.camera) for obj in scene.objects]
    pairs = sorted(
        (sight_angle_deg(true.position_m, found.position_m), i, j)
        for i, true in enumerate(truth)
        for j, found in enumerate(reading.objects)
    )
    matched: dict[int, int] = {}
    for angle, i, j in pairs:
        if angle <= MAX_MATCH_DEG and i not in matched and j not in matched.values():
            matched[i] = j
    return [(scene.objects[i], reading.objects[j]) for i, j in matched.items()]


def object_errors(obj: SceneObject, found: FoundObject, scene: Scene, camera: CameraReading) -> dict[str, float]:
    """Errors of one matched object, by the field names of ReaderAccuracy."""
    true = true_object(obj, scene.camera)
    error = math.dist(true.position_m, found.position_m)
    distance = camera_distance_m(obj)
    turn = angle_between_deg(true.view_heading_deg, found.view_heading_deg)
    sizes = [abs(a / b - 1) for a, b in zip(found.size_m, obj.size_m)]
    return {
        "category_right": float(found.category == obj.category),
        "color_right": float(found.color == obj.color),
        "position_error_m": error,
        "position_error_relative": error / math.hypot(*true.position_m),
        "distance_error_relative": abs(camera_distance_m(on_ground(found, camera.pitch_deg)) / distance - 1),
        "size_error_relative": statistics.fmean(sizes),
        "heading_error_deg": turn,
        "heading_within_30": float(turn <= 30.0),
    }


def accuracy(scenes: Sequence[Scene], readings: Sequence[SceneReading], depth_abs_rel: float) -> ReaderAccuracy:
    """Summary over scenes; nan if nothing was found."""
    errors: list[dict[str, float]] = []
    true_count = found_count = 0
    for scene, reading in zip(scenes, readings):
        true_count += len(scene.objects)
        found_count += len(reading.objects)
        errors += [object_errors(obj, found, scene, reading.camera) for obj, found in match(scene, reading)]

    def over(name: str, summary: type(statistics.fmean)) -> float:
        return summary([error[name] for error in errors]) if errors else math.nan

    shares = ("category_right", "color_right", "heading_within_30")
    names = ("position_error_m", "position_error_relative", "distance_error_relative", "size_error_relative")
    cameras = [(s.camera, r.camera) for s, r in zip(scenes, readings)]
    return ReaderAccuracy(
        objects_found=len(errors) / max(1, true_count),
        found_that_exist=len(errors) / found_count if found_count else math.nan,
        **{name: over(name, statistics.fmean) for name in shares},
        **{name: over(name, statistics.median) for name in (*names, "heading_error_deg")},
        pitch_error_deg=statistics.median(abs(a.pitch_deg - b.pitch_deg) for a, b in cameras),
        fov_error_deg=statistics.median(abs(a.fov_y_deg - b.fov_y_deg) for a, b in cameras),
        depth_abs_rel=depth_abs_rel,
    )


def batch_accuracy(reader: SceneReader, scenes: Sequence[Scene], batch: Batch) -> ReaderAccuracy:
    """Accuracy on `rendered` scenes."""
    dense = read(reader, (batch["rgb"] + 1) / 2)
    depth_abs_rel = depth_metrics.abs_rel(dense.map_log_depth.exp(), batch["depth_m"]).mean().item()
    return accuracy(scenes, decode(dense), depth_abs_rel)


def measure(reader: SceneReader, images: int, seed: int) -> dict[str, ReaderAccuracy]:
    """{"renders" | "degraded renders": accuracy} on renders that no training has seen."""
    scenes = sample_scenes(ACCURACY_STREAM, seed, 0, images)
    batch = rendered(scenes, reader.config.image_size)
    degraded = degrade(batch["rgb"], torch.Generator().manual_seed(seed))
    return {
        "renders": batch_accuracy(reader, scenes, batch),
        "degraded renders": batch_accuracy(reader, scenes, {**batch, "rgb": degraded}),
    }


def accuracy_table(results: dict[str, ReaderAccuracy]) -> str:
    """A Markdown table: one row for each measure, one column for each kind of image."""
    lines = [f"| measure | {' | '.join(results)} |", "|" + "---|" * (len(results) + 1)]
    for field in fields(ReaderAccuracy):
        cells = " | ".join(f"{getattr(result, field.name):.3f}" for result in results.values())
        lines.append(f"| {field.name.replace('_', ' ')} | {cells} |")
    return "\n".join(lines)

"""The scene reader: its conventions against true scenes, its training, its file."""

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sf_model import world
from sf_model.scene_reader.accuracy import accuracy, accuracy_table, match
from sf_model.scene_reader.augment import degrade
from sf_model.scene_reader.data import (
    MAX_OBJECTS,
    object_columns,
    rendered,
    sample_scene,
    sample_scenes,
    scene_targets,
)
from sf_model.scene_reader.decode import decode, decode_depth, decode_heading
from sf_model.scene_reader.losses import MEAN_LOG_SIZE, cell_middles, heading_target, reader_losses
from sf_model.scene_reader.network import READER, DenseReading, SceneReader
from sf_model.scene_reader.reading import SceneReading
from sf_model.scene_reader.weights import load_reader, save_reader
from sf_model.training import __main__ as command_line
from sf_model.training.batch import Batch
from sf_model.training.data.numbered import Share
from sf_model.training.loop import Trainer
from sf_model.training.reader import (
    TRAINING_STREAM,
    ReaderBatches,
    ReaderSettings,
    averaged_reader,
    load_reader_settings,
    train_reader,
)
from sf_model.training.run_state import latest_state, load_average
from sf_model.world import Scene
from tests.unit.mini_training import MINI_CONFIG, changed
from tests.unit.readers import TINY_READER, true_reading

SIZE, ROWS = 64, 16
CERTAIN = 12.0


def some_scenes(count: int) -> list[Scene]:
    rng = random.Random(5)
    return [sample_scene(rng) for _ in range(count)]


def perfect_reading(scenes: list[Scene]) -> tuple[DenseReading, Batch]:
    """What the network would have to say of the scenes, in every cell that an object may be read at."""
    targets = scene_targets(scenes)
    truth = object_columns(targets["objects"])
    rendering = world.render(scenes, SIZE, SIZE)
    count = len(scenes)
    maps = {
        "objectness": torch.full((count, ROWS, ROWS), -CERTAIN),
        "offset": torch.zeros(count, ROWS, ROWS, 2),
        "log_depth": torch.zeros(count, ROWS, ROWS),
        "log_size": torch.zeros(count, ROWS, ROWS, 3),
        "category": torch.zeros(count, ROWS, ROWS, len(world.CATEGORY_NAMES)),
        "color": torch.zeros(count, ROWS, ROWS, len(world.COLORS)),
        "heading": torch.full((count, ROWS, ROWS, 24), -CERTAIN),
    }
    axis = cell_middles(ROWS, torch.device("cpu"))
    focal = 0.5 / torch.tan(torch.deg2rad(targets["fov_y_deg"]) / 2)
    for b, k in truth["present"].nonzero().tolist():
        middle, position = truth["middle"][b, k], truth["position_m"][b, k]
        image = 0.5 + focal[b] * position[:2] / position[2]
        kind = int(truth["category"][b, k])
        column, row = (middle * ROWS).long().tolist()
        maps["objectness"][b, row, column] = CERTAIN
        reach = slice(max(0, row - 1), row + 2), slice(max(0, column - 1), column + 2)
        maps["offset"][b][reach] = image - torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)[reach]
        maps["log_depth"][b][reach] = position[2].log()
        maps["log_size"][b][reach] = truth["size_m"][b, k].log() - MEAN_LOG_SIZE[kind]
        maps["category"][b][(*reach, kind)] = CERTAIN
        maps["color"][b][(*reach, int(truth["color"][b, k]))] = CERTAIN
        maps["heading"][b][reach] = heading_target(truth["view_heading_deg"][b, k]).clamp_min(1e-9).log()
    surface = torch.isfinite(rendering.depth_m)
    dense = DenseReading(
        **maps,
        pitch_deg=targets["pitch_deg"],
        fov_y_deg=targets["fov_y_deg"],
        map_log_depth=torch.where(surface, rendering.depth_m, torch.ones(())).log(),
        surface_logit=torch.where(surface, CERTAIN, -CERTAIN),
    )
    return dense, {**targets, "depth_m": rendering.depth_m}


def apart(scenes: list[Scene]) -> list[Scene]:
    """Those whose objects share no cell's neighbourhood, which a dense reading could not keep apart."""
    kept = []
    for scene in scenes:
        truth = object_columns(scene_targets([scene])["objects"])
        cells = (truth["middle"][0] * ROWS).long()[truth["present"][0] > 0]
        near = (cells[:, None] - cells[None]).abs().amax(dim=-1) < 3
        if not (near & ~torch.eye(len(cells), dtype=torch.bool)).any():
            kept.append(scene)
    return kept


def test_a_perfect_dense_reading_is_the_scene() -> None:
    scenes = apart(some_scenes(60))
    assert sum(len(scene.objects) > 1 for scene in scenes) > 10
    dense, batch = perfect_reading(scenes)
    for scene, reading in zip(scenes, decode(dense)):
        true = true_reading(scene)
        assert len(reading.objects) == len(true.objects)
        assert reading.camera.fov_y_deg == pytest.approx(scene.camera.fov_y_deg)
        found = {(obj.category, obj.color): obj for obj in reading.objects}
        for obj in true.objects:
            other = found[obj.category, obj.color]
            assert other.position_m == pytest.approx(obj.position_m, rel=1e-3, abs=1e-3)
            assert other.size_m == pytest.approx(obj.size_m, rel=1e-4)
            turn = (other.view_heading_deg - obj.view_heading_deg + 180) % 360 - 180
            assert turn == pytest.approx(0, abs=0.5)
    torch.testing.assert_close(decode_depth(dense).depth, batch["depth_m"])


def test_a_perfect_dense_reading_has_no_loss() -> None:
    dense, batch = perfect_reading(apart(some_scenes(30)))
    losses = reader_losses(dense, batch, torch.Generator().manual_seed(0))
    entropy = losses.pop("heading")
    # Shares of two bins: their entropy is the least that the loss can be.
    assert entropy < 0.7
    assert all(value < 0.01 for name, value in losses.items() if name != "loss"), losses


def test_headings_survive_their_bins() -> None:
    headings = torch.tensor([0.0, 3.0, 91.0, 182.5, 359.0])
    back = decode_heading(heading_target(headings).clamp_min(1e-9).log())
    turn = (back - headings + 180) % 360 - 180
    assert turn.abs().max() < 0.1


def test_degrading_changes_most_images_and_stays_in_range() -> None:
    images = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    degraded = degrade(images, torch.Generator().manual_seed(1))
    changed = (degraded - images).abs().amax(dim=(1, 2, 3)) > 0
    assert 32 < changed.sum() < 62
    assert degraded.abs().max() <= 1
    torch.testing.assert_close(degraded, degrade(images, torch.Generator().manual_seed(1)))


def test_batches_depend_on_seed_and_number_alone() -> None:
    batches = ReaderBatches(32, Share(40, 40), seed=0)
    (batch,), (again,), (other,) = batches[1], ReaderBatches(32, Share(40, 40), seed=0)[1], batches[0]
    assert torch.equal(batch["objects"], again["objects"]) and torch.equal(batch["noise_seed"], again["noise_seed"])
    assert not torch.equal(batch["objects"], other["objects"])
    assert not torch.equal(batch["noise_seed"], other["noise_seed"])
    scenes = sample_scenes(TRAINING_STREAM, 0, 1, 40)
    counts = [len(scene.objects) for scene in scenes]
    assert object_columns(batch["objects"])["present"].sum(dim=1).tolist() == counts
    assert max(counts) <= MAX_OBJECTS
    assert {(obj.category, obj.color) for scene in scenes for obj in scene.objects} & world.HELD_OUT


def test_accuracy_of_a_perfect_and_of_a_blind_reader() -> None:
    scenes = some_scenes(12)
    perfect = accuracy(scenes, [true_reading(scene) for scene in scenes], depth_abs_rel=0.0)
    assert (perfect.objects_found, perfect.found_that_exist, perfect.category_right, perfect.color_right) == (1,) * 4
    assert perfect.position_error_m == pytest.approx(0, abs=1e-9)
    assert perfect.distance_error_relative == pytest.approx(0, abs=1e-9)
    assert perfect.heading_within_30 == 1
    blind = accuracy(scenes, [SceneReading((), true_reading(scene).camera) for scene in scenes], depth_abs_rel=0.0)
    assert blind.objects_found == 0
    assert "| objects found | 1.000 | 0.000 |" in accuracy_table({"perfect": perfect, "blind": blind})


def test_a_match_is_one_to_one() -> None:
    scene = next(scene for scene in some_scenes(40) if len(scene.objects) == 2)
    reading = true_reading(scene)
    assert all((obj.category, obj.color) == (found.category, found.color) for obj, found in match(scene, reading))
    single = SceneReading(reading.objects[:1] * 2, reading.camera)
    assert len(match(scene, single)) == 1


def test_the_shipped_size_is_small() -> None:
    assert sum(p.numel() for p in SceneReader(READER).parameters()) < 3_000_000


def tiny_settings(folder: Path, steps: int) -> ReaderSettings:
    """The config of the shipped reader, tiny and short."""
    settings = load_reader_settings(MINI_CONFIG.with_name("scene_reader.yaml"))
    settings = changed(
        settings, runs=str(folder / "run"), output=str(folder / "reader.safetensors"), reader=TINY_READER
    )
    loop = {"steps": steps, "batch_size": 16, "micro_batch": 16, "learning_rate": 3e-3, "warmup_steps": 2, "workers": 0}
    loop |= {"decay_steps": steps, "ema_decay": 0.9, "log_every": 20, "save_every": 20, "sheet_every": steps}
    return changed(settings, loop__mixed_precision="no", **{f"loop__{name}": value for name, value in loop.items()})


def test_a_short_training_lowers_the_loss_and_its_file_reads_back(tmp_path: Path) -> None:
    held_out = rendered(sample_scenes("test", 0, 0, 32), TINY_READER.image_size)

    def loss(reader: SceneReader) -> float:
        with torch.no_grad():
            return reader_losses(reader(held_out["rgb"]), held_out, torch.Generator().manual_seed(0))["loss"].item()

    settings = tiny_settings(tmp_path, 40)
    reader = train_reader(settings)
    assert loss(reader) < 0.85 * loss(SceneReader(TINY_READER, seed=0))
    entries = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert "objects_found" in entries[-1]["validation"]

    # A finished run is not trained again.
    again = train_reader(settings)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in reader.state_dict().items())

    path = Path(settings.output)
    assert load_reader(path).config == TINY_READER
    assert loss(load_reader(path)) == pytest.approx(loss(reader), rel=1e-2)
    save_reader(reader, tmp_path / "other.safetensors", {"steps": 20})
    assert loss(load_reader(tmp_path / "other.safetensors")) == pytest.approx(loss(reader), rel=1e-2)
    with pytest.raises(ValueError, match="train one with `python -m sf_model.training reader"):
        load_reader(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="holds no trained state"):
        averaged_reader(TINY_READER, tmp_path / "none")


def test_the_reader_command_resumes_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after its first state; in bf16."""
    states = {}
    for name, killed in (("whole", False), ("killed", True)):
        settings = changed(tiny_settings(tmp_path / name, 4), loop__mixed_precision="bf16", loop__save_every=2)
        config = tmp_path / f"{name}.yaml"
        config.write_text(yaml.safe_dump(json.loads(json.dumps(asdict(settings)))), encoding="utf-8")
        monkeypatch.setattr("sys.argv", ["training", "reader", "--config", str(config)])
        save = Trainer._save

        def save_then_die(trainer: Trainer, save: Any = save) -> None:
            save(trainer)
            raise KeyboardInterrupt

        if killed:
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(Trainer, "_save", save_then_die)
                command_line.main()
        command_line.main()
        states[name] = load_average(latest_state(Path(settings.runs)))
        assert load_reader(Path(settings.output)).config == TINY_READER
    assert all(torch.equal(value, states["killed"][name]) for name, value in states["whole"].items())

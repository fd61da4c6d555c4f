"""Samples from folders, WebDataset and Parquet; teachers' depth; buckets and crops by hand."""

from __future__ import annotations

import io
import json
import math
import tarfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

from sf_model.training.bases.settings import load_settings
from sf_model.training.images.buckets import Crop, bucket_sizes, nearest
from sf_model.training.images.samples import Sample, SampleProblem, open_source
from sf_model.training.label import LabelledDepth, exif_fov_y_deg, is_metric, label_all, label_samples
from tests.training import tiny_data


def samples(kind: str, path: str, depth: Path | None, start: int = 0) -> list[Sample | SampleProblem]:
    return list(open_source(kind, path, None if depth is None else str(depth)).samples(start))


def write_streams(folder: Path) -> None:
    """The folder's samples as two tars and as two Parquet files, depth inside."""
    found = samples("folder", str(folder / "images"), folder / "depth")
    for part, half in enumerate((found[:5], found[5:])):
        with tarfile.open(folder / f"{part}.tar", "w") as tar:
            for sample in half:
                assert isinstance(sample, Sample) and sample.depth and sample.caption
                parts = {"png": sample.image, "txt": sample.caption.encode(), "depth": sample.depth[0]}
                for suffix, data in parts.items():
                    info = tarfile.TarInfo(f"{sample.key}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        rows = [
            {"key": s.key, "image": {"bytes": s.image, "path": None}, "text": s.caption, "depth": s.depth[0]}
            for s in half
            if isinstance(s, Sample) and s.depth
        ]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / f"{part}.parquet")


def test_streams_hold_what_the_folder_does(tmp_path: Path) -> None:
    tiny_data.write_images(tmp_path)
    write_streams(tmp_path)
    expected = samples("folder", str(tmp_path / "images"), tmp_path / "depth")
    for kind, pattern in (("webdataset", "*.tar"), ("parquet", "*.parquet")):
        for start in (0, 6):
            found = samples(kind, str(tmp_path / pattern), None, start)
            assert len(found) == len(expected) - start
            for sample, other in zip(found, expected[start:]):
                assert isinstance(sample, Sample) and isinstance(other, Sample)
                assert (sample.key, sample.caption) == (other.key, other.caption)
                assert torch.equal(sample.rgb(), other.rgb())
                assert torch.equal(sample.metric_depth().depth, other.metric_depth().depth)


def test_a_folder_without_metadata_reads_captions_beside_images(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "deep" / "b.jpg")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "deep" / "b.txt").write_text("a dog\n", encoding="utf-8")
    found = samples("folder", str(tmp_path), None)
    assert [(s.key, s.caption) for s in found if isinstance(s, Sample)] == [("a", None), ("deep/b", "a dog")]
    with pytest.raises(ValueError, match="no file matches"):
        samples("webdataset", str(tmp_path / "*.tar"), None)


def test_buckets_and_crops_by_hand() -> None:
    sizes = bucket_sizes(1024 * 1024, 32, 2.0)
    assert (1024, 1024) in sizes and (736, 1440) in sizes
    assert all(h % 32 == w % 32 == 0 and abs(h * w / 1024**2 - 1) < 0.05 for h, w in sizes)
    assert nearest(sizes, 3000, 3000) == (1024, 1024)
    # Twice as wide as high into a square: the middle half remains, the height whole.
    crop = Crop(100, 200, (50, 50))
    assert crop.scale == 0.5
    assert crop.fov_y_deg(60.0) == pytest.approx(60.0)
    columns = torch.arange(200.0).expand(100, 200)
    assert crop.depth(columns)[0, 0] == pytest.approx(51, abs=1)
    assert crop.depth(columns)[0, -1] == pytest.approx(149, abs=1)
    # Twice as high as wide: half of the height remains, tan(fov / 2) halves.
    tall = Crop(200, 100, (50, 50))
    assert tall.fov_y_deg(60.0) == pytest.approx(math.degrees(2 * math.atan(math.tan(math.radians(30)) / 2)))
    # The depth may have another resolution than the image.
    half = torch.arange(100.0).repeat_interleave(1).expand(50, 100)
    assert torch.allclose(crop.depth(half) * 2, crop.depth(columns), atol=2)


class Ruler:
    """A teacher that calls everything 2 m away, and cannot label what is blue."""

    def label(self, rgb: torch.Tensor, fov_y_deg: float | None) -> LabelledDepth:
        if rgb[2].float().mean() > 200:
            raise SampleProblem("bad_depth", "blue")
        assert fov_y_deg is not None
        return LabelledDepth(torch.full(rgb.shape[-2:], 2.0), fov_y_deg)


def test_labels_go_on_and_count_what_failed(tmp_path: Path) -> None:
    for name, color in (("a", (9, 9, 9)), ("b", (0, 0, 255)), ("c", (9, 9, 9))):
        Image.new("RGB", (12, 8), color).save(tmp_path / f"{name}.png")
    (tmp_path / "d.png").write_bytes(b"no image")
    depth = tmp_path / "depth"
    source = open_source("folder", str(tmp_path), str(depth))
    expected = {"failed: bad_depth": 1, "failed: unreadable_image": 1}
    assert label_all(source.samples(0), Ruler(), depth, 40.0) == {"labelled": 2, **expected}
    failed = [json.loads(line) for line in (depth / "failed.jsonl").read_text().splitlines()]
    assert [(entry["key"], entry["kind"]) for entry in failed] == [("b", "bad_depth"), ("d", "unreadable_image")]
    assert label_all(source.samples(0), Ruler(), depth, 40.0) == {"there already": 2, **expected}
    found = samples("folder", str(tmp_path), depth)[0]
    assert isinstance(found, Sample)
    label = found.metric_depth()
    assert (label.depth == 2).all() and label.fov_y_deg.item() == 40.0
    assert not list(depth.glob("*partial*"))


def test_exif_tells_the_camera() -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 35
    stream = io.BytesIO()
    Image.new("RGB", (36, 24)).save(stream, "JPEG", exif=exif)
    # 35 mm before a frame of 36 x 24 mm.
    assert exif_fov_y_deg(stream.getvalue()) == pytest.approx(math.degrees(2 * math.atan(12 / 35)), rel=1e-3)
    assert exif_fov_y_deg(b"nothing") is None


def test_only_metric_models_teach() -> None:
    assert is_metric({"model_type": "depth_pro"})
    assert is_metric({"model_type": "depth_anything", "depth_estimation_type": "metric"})
    assert not is_metric({"model_type": "depth_anything", "depth_estimation_type": "relative"})
    assert not is_metric({"model_type": "dpt"})


def test_the_label_command_with_a_real_architecture(tmp_path: Path) -> None:
    """Depth Anything, tiny and random: metres in (0, max_depth], and the relative variant is refused."""
    backbone = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
        depth_estimation_type="metric",
        max_depth=20,
    )
    torch.manual_seed(0)
    teacher = tmp_path / "teacher"
    DepthAnythingForDepthEstimation(config).save_pretrained(teacher)
    DPTImageProcessor(size={"height": 28, "width": 28}, do_resize=True).save_pretrained(teacher)
    tiny_data.write_images(tmp_path)
    (tmp_path / "images/00.png").write_bytes(b"no image")
    parts = ("text_encoder", "diffusion_model", "vae", "tokenizer", "vision")
    config_file = tiny_data.write_config(
        tmp_path,
        "omnigen2",
        dict.fromkeys(parts, Path("not looked at")),
        edits=False,
        label__teacher=str(teacher),
        data__depth=str(tmp_path / "labels"),
    )
    label_samples(load_settings(config_file))
    assert len(list((tmp_path / "labels").glob("*.npz"))) == len(tiny_data.SIZES) - 1
    stored = np.load(tmp_path / "labels/01.npz")
    assert stored["depth_m"].shape == tiny_data.SIZES[1][::-1]
    assert 0 < stored["depth_m"].min() <= stored["depth_m"].max() <= 20
    settings = json.loads((teacher / "config.json").read_text())
    (teacher / "config.json").write_text(json.dumps({**settings, "depth_estimation_type": "relative"}))
    with pytest.raises(ValueError, match="not known to be in metres"):
        label_samples(load_settings(config_file))

"""Samples from folders, WebDataset and Parquet; teachers' depth; buckets and crops by hand."""

from __future__ import annotations

import io
import json
import math
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from transformers import (
    BeitConfig,
    DepthProConfig,
    DepthProForDepthEstimation,
    DepthProImageProcessor,
    ZoeDepthConfig,
    ZoeDepthForDepthEstimation,
    ZoeDepthImageProcessor,
    pipeline,
)

from sf_model.depth.metric_depth import MetricDepth
from sf_model.files.writing import exr_bytes, npz_bytes, png_bytes
from sf_model.training.data.buckets import Crop, bucket_sizes, nearest
from sf_model.training.data.label import TransformersTeacher, exif_fov_y_deg, is_metric, label_all, label_samples
from sf_model.training.data.prepare import prepare_sample
from sf_model.training.data.samples import Sample, SampleProblem
from sf_model.training.data.sources import open_source
from sf_model.training.settings import load_settings
from tests.training import tiny_bases, tiny_data


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
                parts["source.png"] = sample.source or b""  # `datasets` wants the same members of all
                for suffix, data in parts.items():
                    info = tarfile.TarInfo(f"{sample.key}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        rows = [
            {
                "key": s.key,
                "image": {"bytes": s.image, "path": None},
                "text": s.caption,
                "depth": s.depth[0],
                "source": None if s.source is None else {"bytes": s.source, "path": None},
            }
            for s in half
            if isinstance(s, Sample) and s.depth
        ]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / f"{part}.parquet")


def test_streams_hold_what_the_folder_does(tmp_path: Path) -> None:
    tiny_data.write_images(tmp_path, edits=True)
    write_streams(tmp_path)
    expected = samples("folder", str(tmp_path / "images"), tmp_path / "depth")
    for kind, pattern in (("webdataset", "*.tar"), ("parquet", "*.parquet")):
        for start in (0, 6):
            found = samples(kind, str(tmp_path / pattern), None, start)
            assert len(found) == len(expected) - start
            for sample, other in zip(found, expected[start:]):
                assert isinstance(sample, Sample) and isinstance(other, Sample)
                assert sample.caption == other.caption
                # Every tar may begin its names from 0.
                tar = f"{int(other.key) // 5}/" if kind == "webdataset" else ""
                assert sample.key == tar + other.key
                assert torch.equal(sample.rgb(), other.rgb())
                assert sample.source == other.source
                assert (other.source is not None) == bool(int(other.key) % 2)
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
    """A teacher that calls everything 2 m away, what is dark 3 m, and cannot label what is blue."""

    def label(self, rgb: torch.Tensor, fov_y_deg: float | None) -> MetricDepth:
        if rgb[2].float().mean() > 200:
            raise SampleProblem("bad_depth", "blue")
        assert fov_y_deg is not None
        # Nearer where it is brighter, so that a depth shows which way up the image was.
        depth = 2.0 + (rgb.float().mean(0, keepdim=True) < 128)
        return MetricDepth(depth, torch.ones_like(depth), torch.tensor([fov_y_deg]))


def test_labels_go_on_and_count_what_failed(tmp_path: Path) -> None:
    for name, color in (("a", (9, 9, 9)), ("b", (0, 0, 255)), ("c", (9, 9, 9))):
        Image.new("RGB", (12, 8), color).save(tmp_path / f"{name}.png")
    (tmp_path / "d.png").write_bytes(b"no image")
    depth = tmp_path / "depth"
    source = open_source("folder", str(tmp_path), str(depth))
    expected = {"failed: bad_depth": 1, "failed: unreadable_image": 1}
    counts, failed = label_all(source.samples(0), Ruler(), depth, 40.0)
    assert counts == {"labelled": 2, **expected}
    assert [(entry["key"], entry["kind"]) for entry in failed] == [("b", "bad_depth"), ("d", "unreadable_image")]
    assert label_all(source.samples(0), Ruler(), depth, 40.0)[0] == {"there already": 2, **expected}
    found = samples("folder", str(tmp_path), depth)[0]
    assert isinstance(found, Sample)
    label = found.metric_depth()
    assert (label.depth == 3).all() and label.fov_y_deg.item() == 40.0
    assert not list(depth.glob("*partial*"))


def test_lying_pictures_are_seen_upright_and_so_is_their_depth(tmp_path: Path) -> None:
    """Stored lying, bright at the left; EXIF says that its left is the top."""
    stored = Image.new("RGB", (96, 64))
    stored.paste((250, 250, 100), (0, 0, 48, 64))
    exif = Image.Exif()
    exif[0x0112] = 8  # turn it left
    exif.get_ifd(0x8769)[0xA405] = 35
    stored.transpose(Image.Transpose.ROTATE_180).save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "a.txt").write_text("a wall", encoding="utf-8")
    counts, _ = label_all(open_source("folder", str(tmp_path), None).samples(0), Ruler(), tmp_path / "depth", None)
    assert counts == {"labelled": 1}
    (sample,) = samples("folder", str(tmp_path), tmp_path / "depth")
    assert isinstance(sample, Sample)
    rgb, depth = sample.rgb(), sample.metric_depth()
    assert rgb.shape == (3, 96, 64) and depth.depth.shape == (1, 96, 64)
    top, bottom = rgb[:, :40].float().mean(), rgb[:, 56:].float().mean()
    assert top > 150 > 50 > bottom
    assert (depth.depth[0, :40] == 2).all() and (depth.depth[0, 56:] == 3).all()
    # 36 mm high as it is seen: the longer side.
    assert depth.fov_y_deg.item() == pytest.approx(math.degrees(2 * math.atan(18 / 35)), rel=1e-3)
    settings = load_settings(Path(__file__).resolve().parents[2] / "configs/omnigen2.yaml").data
    prepared = prepare_sample(sample, [(96, 64)], settings)
    assert torch.equal(prepared.rgb, rgb) and torch.equal(prepared.depth_m, depth.depth[0])


def test_images_of_one_name_do_not_share_a_depth_unnoticed(tmp_path: Path) -> None:
    for name in ("dog.jpg", "dog.png"):
        Image.new("RGB", (12, 8)).save(tmp_path / name)
    counts, _ = label_all(open_source("folder", str(tmp_path), None).samples(0), Ruler(), tmp_path / "depth", 40.0)
    assert counts == {"labelled": 1, "failed: same_name": 1}


def test_captions_that_are_not_text_are_named(tmp_path: Path) -> None:
    tiny_data.write_images(tmp_path)
    write_streams(tmp_path)
    folder = tmp_path / "captions"
    folder.mkdir()
    for name, caption in (("a", b"caf\xe9"), ("b", b"\xef\xbb\xbfa caf\xc3\xa9")):
        Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_bytes(caption)
    first, second = samples("folder", str(folder), None)
    assert isinstance(first, SampleProblem)
    assert (first.kind, first.key) == ("bad_caption", "a") and "a.txt is not UTF-8" in str(first)
    assert isinstance(second, Sample) and second.caption == "a caf\u00e9"
    with tarfile.open(tmp_path / "0.tar", "a") as tar:
        for suffix, data in (("png", (folder / "a.png").read_bytes()), ("txt", b"caf\xe9"), ("depth", b"")):
            info = tarfile.TarInfo(f"last.{suffix}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with pytest.raises(ValueError, match=r"a caption \(the one after 0/04\) is not UTF-8"):
        samples("webdataset", str(tmp_path / "0.tar"), None)
    (folder / "metadata.jsonl").write_bytes(b'{"file_name": "a.png", "text": "caf\xe9"}\n')
    with pytest.raises(ValueError, match=r"metadata.jsonl, line 1: not a UTF-8 object"):
        samples("folder", str(folder), None)


@pytest.mark.parametrize(
    ("name", "encode"), [("dog_00001_.npz", npz_bytes), ("dog_00001_.exr", exr_bytes), ("dog_00001_mm.png", png_bytes)]
)
def test_what_save_metric_depth_writes_is_depth_to_train_on(name: str, encode: Any, tmp_path: Path) -> None:
    """As the node names its files, beside the picture that it writes to look at."""
    depth = MetricDepth(torch.linspace(1, 9, 96).view(1, 8, 12), torch.ones(1, 8, 12), torch.tensor([41.0]))
    depth.depth[0, 0] = torch.inf
    folder = tmp_path / "depth"
    folder.mkdir()
    (folder / name).write_bytes(encode(depth, 0))
    Image.new("RGB", (12, 8)).save(folder / "dog_00001_.png")
    Image.new("RGB", (12, 8)).save(tmp_path / "dog.jpg")
    sample = samples("folder", str(tmp_path), folder)[0]
    assert isinstance(sample, Sample)
    found = sample.metric_depth()
    assert torch.allclose(found.depth, depth.depth, atol=6e-4)
    assert found.fov_y_deg.item() == pytest.approx(41.0, abs=1e-4)
    counts, _ = label_all(open_source("folder", str(tmp_path), str(folder)).samples(0), Ruler(), folder, 40.0)
    assert counts["there already"] == 1


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


def depth_pro() -> tuple[Any, Any]:
    encoder = {"model_type": "dinov2", "num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 1}
    config = DepthProConfig(
        patch_size=16,
        fusion_hidden_size=16,
        intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[10, 8],
        scaled_images_ratios=[0.5, 1.0],
        scaled_images_overlap_ratios=[0.0, 0.2],
        scaled_images_feature_dims=[12, 12],
        use_fov_model=True,
        **{
            f"{part}_model_config": {**encoder, "patch_size": 4, "image_size": 16} for part in ("image", "patch", "fov")
        },
    )
    model = DepthProForDepthEstimation(config)
    # A random head gives less than a degree.
    list(model.fov_model.head.layers)[-1].bias.data.fill_(60.0)
    return model, DepthProImageProcessor(size={"height": 64, "width": 64})


def zoe_depth() -> tuple[Any, Any]:
    backbone = BeitConfig(
        image_size=32,
        patch_size=16,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=37,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
        use_relative_position_bias=True,
    )
    config = ZoeDepthConfig(
        backbone_config=backbone,
        neck_hidden_sizes=[16] * 4,
        fusion_hidden_size=16,
        bottleneck_features=16,
        bin_embedding_dim=8,
        num_relative_features=8,
        bin_configurations=[{"name": "nyu", "n_bins": 16, "min_depth": 1e-3, "max_depth": 10.0}],
    )
    return ZoeDepthForDepthEstimation(config), ZoeDepthImageProcessor(
        size={"height": 32, "width": 32}, ensure_multiple_of=16
    )


@pytest.mark.parametrize("build", [tiny_bases.depth_anything, depth_pro, zoe_depth], ids=lambda build: build.__name__)
def test_the_label_command_with_real_architectures(build: Any, tmp_path: Path) -> None:
    """Tiny and random: the depth that transformers' own pipeline gives, of the images' sizes, with a camera."""
    torch.manual_seed(0)
    teacher = tmp_path / "teacher"
    for part in build():
        part.save_pretrained(teacher)
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
        label__sky_above_m=1e6,
    )
    label_samples(load_settings(config_file))
    assert len(list((tmp_path / "labels").glob("*.npz"))) == len(tiny_data.SIZES) - 1
    stored = np.load(tmp_path / "labels/01.npz")
    width, height = tiny_data.SIZES[1]
    expected = pipeline("depth-estimation", model=str(teacher))(str(tmp_path / "images/01.png"))["predicted_depth"]
    assert stored["depth_m"].shape == expected.shape == (height, width)
    assert np.allclose(stored["depth_m"], expected, rtol=1e-4)
    if build is not depth_pro:
        assert stored["fov_y_deg"] == 50.0, "what the config says where the teacher knows no camera"
    else:
        # It says 60 degrees and a little, across.
        down = math.degrees(2 * math.atan(math.tan(math.radians(30)) * height / width))
        assert float(stored["fov_y_deg"]) == pytest.approx(down, abs=2)


def test_a_teacher_without_metres_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "depth_anything", "depth_estimation_type": "relative"}), encoding="utf-8"
    )
    with pytest.raises(ValueError, match="not known to be in metres"):
        TransformersTeacher(tmp_path, 1000.0, False, torch.device("cpu"))

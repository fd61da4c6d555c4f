"""Where training samples come from: a folder of images, or WebDataset tars and Parquet files streamed by `datasets`.

A folder holds images with a caption of the same name (`dog.jpg`, `dog.txt`), or `metadata.jsonl` with one object a
line: file_name, text and, for an edit pair, source (the image before the edit). Depth files have the images' names,
in a folder of their own. Streams have the fields jpg/jpeg/png/webp (or image), txt (or text, or json with "text"), and
optionally depth (a file's bytes: NPZ, EXR or 16-bit PNG) and source (an image; in WebDataset source.jpg etc.).
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ...depth_files import SUFFIXES, has_nan, load_depth
from ...metric_depth import MetricDepth

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
METADATA = "metadata.jsonl"
_MAGIC = {b"PK\x03\x04": ".npz", b"\x76\x2f\x31\x01": ".exr", b"\x89PNG": ".png", b"\x93NUM": ".npy"}
MAX_PIXELS = 1 << 28


class SampleProblem(ValueError):  # noqa: N818
    """A sample that cannot be used; `kind` is what is counted."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Sample:
    """`key` names the sample in reports and its depth file; images and depth are files' bytes, not yet looked at."""

    key: str
    image: bytes
    caption: str | None
    depth: tuple[bytes, str] | None
    source: bytes | None

    def rgb(self) -> torch.Tensor:
        """(3, H, W) uint8. SampleProblem for what is no image."""
        return _decoded(self.image, self.key)

    def source_rgb(self) -> torch.Tensor | None:
        """The same of the image before an edit."""
        return None if self.source is None else _decoded(self.source, f"{self.key} (source)")

    def metric_depth(self) -> MetricDepth:
        """One image's depth, as large as its file. SampleProblem where it is missing, damaged or has NaN values."""
        if self.depth is None:
            raise SampleProblem("missing_depth", "it has no depth file; run `label`, or name the folder in data.depth")
        data, name = self.depth
        try:
            if has_nan(data, name):
                raise SampleProblem("nan_depth", f"{name} has NaN values")
            depth = load_depth(data, name)
        except SampleProblem:
            raise
        except ValueError as error:
            raise SampleProblem("bad_depth", str(error)) from error
        if not bool(depth.valid.any()):
            raise SampleProblem("empty_depth", f"{name} has no surface at all")
        return depth


def _decoded(data: bytes, key: str) -> torch.Tensor:
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise SampleProblem("unreadable_image", f"{key}: {image.width}x{image.height} pixels are too many")
            pixels = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
            return pixels.view(image.height, image.width, 3).permute(2, 0, 1)
    except SampleProblem:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise SampleProblem("unreadable_image", f"{key}: {error}") from error


class FolderSource:
    """Images of a folder and all folders in it, in the order of their names."""

    def __init__(self, folder: Path, depth: Path | None) -> None:
        if not folder.is_dir():
            raise ValueError(f"data.path: {folder} is no folder; name the folder with the images")
        self.folder, self.depth = folder, depth
        metadata = folder / METADATA
        self.rows = _metadata_rows(metadata) if metadata.exists() else _image_rows(folder)
        if not self.rows:
            raise ValueError(f"{folder} has no images ({', '.join(IMAGE_SUFFIXES)}) and no {METADATA}")

    def __len__(self) -> int:
        return len(self.rows)

    def samples(self, start: int) -> Iterator[Sample | SampleProblem]:
        """All samples from number `start` on; one that cannot even be read is a SampleProblem."""
        for row in self.rows[start:]:
            yield self._sample(row)

    def _sample(self, row: dict[str, str]) -> Sample | SampleProblem:
        key = Path(row["file_name"]).with_suffix("").as_posix()
        try:
            image = (self.folder / row["file_name"]).read_bytes()
            source = (self.folder / row["source"]).read_bytes() if row.get("source") else None
        except OSError as error:
            return SampleProblem("unreadable_image", f"{key}: {error}")
        return Sample(key, image, self._caption(row), self._depth(key), source)

    def _caption(self, row: dict[str, str]) -> str | None:
        if "text" in row:
            return row["text"]
        path = (self.folder / row["file_name"]).with_suffix(".txt")
        return path.read_text(encoding="utf-8").strip() if path.exists() else None

    def _depth(self, key: str) -> tuple[bytes, str] | None:
        if self.depth is None:
            return None
        for suffix in SUFFIXES:
            path = self.depth / f"{key}{suffix}"
            if path.exists():
                return path.read_bytes(), path.name
        return None


def _image_rows(folder: Path) -> list[dict[str, str]]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return [{"file_name": name} for name in sorted(names)]


def _metadata_rows(path: Path) -> list[dict[str, str]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            row["file_name"].strip()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f'{path}, line {number}: not an object with "file_name" ({error})') from error
        rows.append(row)
    return rows


class StreamSource:
    """WebDataset tars or Parquet files, read from front to back without unpacking; `depth` as in `FolderSource`."""

    def __init__(self, kind: str, pattern: str, depth: Path | None) -> None:
        self.files = sorted(glob(pattern))  # noqa: PTH207
        if not self.files:
            raise ValueError(f"data.path: no file matches {pattern}")
        self.kind, self.depth = kind, depth

    def samples(self, start: int) -> Iterator[Sample | SampleProblem]:
        """All samples from number `start` on; what lies before is passed over without being decoded."""
        from datasets import Image as ImageFeature
        from datasets import load_dataset

        stream = load_dataset(self.kind, data_files={"train": self.files}, split="train", streaming=True)
        for name, feature in (stream.features or {}).items():
            if isinstance(feature, ImageFeature):
                stream = stream.cast_column(name, ImageFeature(decode=False))
        for number, row in enumerate(stream.skip(start), start=start):
            yield self._sample(row, number)

    def _sample(self, row: dict[str, Any], number: int) -> Sample | SampleProblem:
        key = str(row.get("__key__") or row.get("key") or f"{number:09d}")
        image = _first_bytes(row, ("image", *(suffix[1:] for suffix in IMAGE_SUFFIXES)))
        if image is None:
            return SampleProblem("unreadable_image", f"{key}: it has no image field")
        source = _first_bytes(row, ("source", *(f"source{suffix}" for suffix in IMAGE_SUFFIXES)))
        return Sample(key, image, _stream_caption(row), self._depth(row, key), source)

    def _depth(self, row: dict[str, Any], key: str) -> tuple[bytes, str] | None:
        data = _first_bytes(row, ("depth", *(f"depth{suffix}" for suffix in SUFFIXES)))
        if data is not None:
            return data, f"{Path(key).name}{_MAGIC.get(data[:4], '')}"
        if self.depth is None:
            return None
        paths = [path for suffix in SUFFIXES if (path := self.depth / f"{key}{suffix}").exists()]
        return (paths[0].read_bytes(), paths[0].name) if paths else None


def _first_bytes(row: dict[str, Any], names: tuple[str, ...]) -> bytes | None:
    for name in names:
        value = row.get(name)
        value = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(value, bytes):
            return value
    return None


def _stream_caption(row: dict[str, Any]) -> str | None:
    value = next((row[name] for name in ("txt", "text", "caption", "json") if row.get(name) is not None), None)
    value = value.get("text", value.get("caption")) if isinstance(value, dict) else value
    return value.decode("utf-8").strip() if isinstance(value, bytes) else value


def open_source(kind: str, path: str, depth: str | None) -> FolderSource | StreamSource:
    """The samples that a config names; ValueError where there are none."""
    depth_folder = None if depth is None else Path(depth)
    return FolderSource(Path(path), depth_folder) if kind == "folder" else StreamSource(kind, path, depth_folder)

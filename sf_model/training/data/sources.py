"""Where training samples come from: a folder of images, or WebDataset tars and Parquet files streamed by `datasets`.

A folder holds images with a caption of the same name (`dog.jpg`, `dog.txt`), or `metadata.jsonl` with one object a
line: file_name, text and, for an edit pair, source (the image before the edit). Depth files have the images' names,
in a folder of their own. Streams have the fields jpg/jpeg/png/webp (or image), txt (or text, or json with "text"), and
optionally depth (a file's bytes: NPZ, EXR or 16-bit PNG) and source (an image; in WebDataset source.jpg etc.).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from glob import glob
from hashlib import sha256
from pathlib import Path
from typing import Any

from ...files.depth_files import SUFFIXES
from .samples import Sample, SampleProblem

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
METADATA = "metadata.jsonl"
# Endings that Save Metric Depth adds to a prefix. `_00001_.png` is missing here: it is only a picture to look at.
SAVED_SUFFIXES = ("_00001_.npz", "_00001_.exr", "_00001_mm.png")
_MAGIC = {b"PK\x03\x04": ".npz", b"\x76\x2f\x31\x01": ".exr", b"\x89PNG": ".png", b"\x93NUM": ".npy"}
# A file: its name, size in bytes and time of change in ns.
FileFacts = tuple[str, int, int]
Samples = Iterator[Sample | SampleProblem]


def depth_path(folder: Path, key: str) -> Path | None:
    """The depth file of a sample, with a name given by `label` or Save Metric Depth. None if there is none."""
    paths = (folder / f"{key}{suffix}" for suffix in (*SUFFIXES, *SAVED_SUFFIXES))
    return next((path for path in paths if path.exists()), None)


class FolderSource:
    """Images of a folder and its subfolders, sorted by name."""

    def __init__(self, folder: Path, depth: Path | None) -> None:
        if not folder.is_dir():
            raise ValueError(f"data.path: {folder} is no folder; name the folder with the images")
        self.folder, self.depth = folder, depth
        metadata = folder / METADATA
        self.rows = _metadata_rows(metadata) if metadata.exists() else _image_rows(folder, depth)
        if not self.rows:
            raise ValueError(f"{folder} has no images ({', '.join(IMAGE_SUFFIXES)}) and no {METADATA}")

    def samples(self, start: int) -> Samples:
        """All samples from number `start` on. A sample that cannot be read is a SampleProblem."""
        for row in self.rows[start:]:
            yield self._sample(row)

    def blocks(self, size: int, wanted: Callable[[int], bool]) -> Iterator[tuple[int, list[Sample | SampleProblem]]]:
        """(n, samples n * size to (n + 1) * size - 1) for every n that is wanted. Others are not read."""
        for number in range(-(-len(self.rows) // size)):
            if wanted(number):
                yield number, [self._sample(row) for row in self.rows[number * size : (number + 1) * size]]

    def digest(self, number: int, size: int) -> str:
        """A digest of everything that block `number` is made from: the rows' text, and the files' sizes and times."""
        facts: list[Any] = []
        for row in self.rows[number * size : (number + 1) * size]:
            image = self.folder / row["file_name"]
            files = [image, image.with_suffix(".txt")]
            files += [self.folder / row["source"]] if row.get("source") else []
            depth = None if self.depth is None else depth_path(self.depth, _key(row))
            files += [] if depth is None else [depth]
            facts.append([row, [_facts(file) for file in files]])
        return _hashed(facts)

    def _sample(self, row: dict[str, str]) -> Sample | SampleProblem:
        key = _key(row)
        try:
            image = (self.folder / row["file_name"]).read_bytes()
            source = (self.folder / row["source"]).read_bytes() if row.get("source") else None
            return Sample(key, image, self._caption(row), self._depth(key), source)
        except OSError as error:
            return SampleProblem("unreadable_image", f"{key}: {error}", key)
        except UnicodeDecodeError as error:
            return SampleProblem("bad_caption", f"{key}.txt is not UTF-8 ({error}); save it as UTF-8", key)

    def _caption(self, row: dict[str, str]) -> str | None:
        if "text" in row:
            return row["text"]
        path = (self.folder / row["file_name"]).with_suffix(".txt")
        return path.read_text(encoding="utf-8-sig").strip() if path.exists() else None

    def _depth(self, key: str) -> tuple[bytes, str] | None:
        path = None if self.depth is None else depth_path(self.depth, key)
        return None if path is None else (path.read_bytes(), path.name)


def _key(row: dict[str, str]) -> str:
    return Path(row["file_name"]).with_suffix("").as_posix()


def _facts(file: Path) -> FileFacts | None:
    if not file.exists():
        return None
    status = file.stat()
    return file.name, status.st_size, status.st_mtime_ns


def _hashed(facts: Any) -> str:
    return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _image_rows(folder: Path, depth: Path | None) -> list[dict[str, str]]:
    """All images in the folder, except those in the folder of depth files."""
    names = [
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and (depth is None or depth == folder or depth not in path.parents)
    ]
    return [{"file_name": name} for name in sorted(names)]


def _metadata_rows(path: Path) -> list[dict[str, str]]:
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            row = json.loads(line.decode("utf-8-sig"))
            if not isinstance(row["file_name"], str):
                raise TypeError("file_name is no text")
            if not all(isinstance(row.get(name), (str, type(None))) for name in ("text", "source")):
                raise TypeError("text and source must be text or null")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f'{path}, line {number}: not a UTF-8 object with "file_name" ({error})') from error
        rows.append(row)
    return rows


class StreamSource:
    """WebDataset tars or Parquet files, read from front to back without unpacking; `depth` as in `FolderSource`.

    Keys of tar samples contain the tar's name, since the names in every tar may start at 0.
    """

    def __init__(self, kind: str, pattern: str, depth: Path | None) -> None:
        self.files = sorted(glob(pattern))  # noqa: PTH207
        if not self.files:
            raise ValueError(f"data.path: no file matches {pattern}")
        self.kind, self.depth = kind, depth
        self._digest: str | None = None

    def samples(self, start: int) -> Samples:
        """All samples from number `start` on. Earlier ones are skipped without being decoded."""
        from datasets import Image as ImageFeature
        from datasets import load_dataset

        stream = load_dataset(self.kind, data_files={"train": self.files}, split="train", streaming=True)
        for name, feature in (stream.features or {}).items():
            if isinstance(feature, ImageFeature):
                stream = stream.cast_column(name, ImageFeature(decode=False))
        last = "the first one"
        try:
            for number, row in enumerate(stream.skip(start), start=start):
                sample = self._sample(row, number)
                last = f"the one after {sample.key}"
                yield sample
        except UnicodeDecodeError as error:
            # `datasets` decodes the captions of tars itself, and cannot continue after such an error.
            raise ValueError(f"data.path: a caption ({last}) is not UTF-8 ({error}); pack it again as UTF-8") from error

    def blocks(self, size: int, wanted: Callable[[int], bool]) -> Iterator[tuple[int, list[Sample | SampleProblem]]]:
        """As `FolderSource.blocks`, but every sample of the stream is read."""
        block: list[Sample | SampleProblem] = []
        number = 0
        for sample in self.samples(0):
            block.append(sample)
            if len(block) == size:
                if wanted(number):
                    yield number, block
                number, block = number + 1, []
        if block and wanted(number):
            yield number, block

    def digest(self, _number: int, _size: int) -> str:
        """As `FolderSource.digest`, but any change changes all blocks: it is unknown which file a block comes from."""
        if self._digest is None:
            depth = [] if self.depth is None else sorted(path for path in self.depth.rglob("*") if path.is_file())
            self._digest = _hashed([_facts(Path(file)) for file in (*self.files, *depth)])
        return self._digest

    def _sample(self, row: dict[str, Any], number: int) -> Sample | SampleProblem:
        key = str(row.get("__key__") or row.get("key") or f"{number:09d}")
        if row.get("__url__"):
            key = f"{Path(row['__url__']).stem}/{key}"
        image = _first_bytes(row, ("image", *(suffix[1:] for suffix in IMAGE_SUFFIXES)))
        if image is None:
            return SampleProblem("unreadable_image", f"{key}: it has no image field", key)
        source = _first_bytes(row, ("source", *(f"source{suffix}" for suffix in IMAGE_SUFFIXES)))
        try:
            return Sample(key, image, _stream_caption(row), self._depth(row, key), source)
        except (UnicodeDecodeError, TypeError) as error:
            return SampleProblem("bad_caption", f"{key}: its caption is no UTF-8 text ({error})", key)

    def _depth(self, row: dict[str, Any], key: str) -> tuple[bytes, str] | None:
        data = _first_bytes(row, ("depth", *(f"depth{suffix}" for suffix in SUFFIXES)))
        if data is not None:
            return data, f"{Path(key).name}{_MAGIC.get(data[:4], '')}"
        path = None if self.depth is None else depth_path(self.depth, key)
        return None if path is None else (path.read_bytes(), path.name)


def _first_bytes(row: dict[str, Any], names: tuple[str, ...]) -> bytes | None:
    for name in names:
        value = row.get(name)
        value = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(value, bytes) and value:
            return value
    return None


def _stream_caption(row: dict[str, Any]) -> str | None:
    """The caption, or None. TypeError if it is neither text nor bytes, UnicodeDecodeError if bytes are not UTF-8."""
    value = next((row[name] for name in ("txt", "text", "caption", "json") if row.get(name) is not None), None)
    value = value.get("text", value.get("caption")) if isinstance(value, dict) else value
    if isinstance(value, bytes):
        value = value.decode("utf-8-sig")
    if not isinstance(value, (str, type(None))):
        raise TypeError(f"it is {type(value).__name__}")
    return None if value is None else value.strip()


def open_source(kind: str, path: str, depth: str | None) -> FolderSource | StreamSource:
    """The samples that a config names. ValueError if there are none."""
    depth_folder = None if depth is None else Path(depth)
    return FolderSource(Path(path), depth_folder) if kind == "folder" else StreamSource(kind, path, depth_folder)

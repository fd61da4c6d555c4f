"""One training sample: the bytes of its files, and how they are decoded."""

from __future__ import annotations

import io
from dataclasses import dataclass

import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from ...depth.metric_depth import MetricDepth
from ...files.depth_files import NanDepthError, load_depth

MAX_PIXELS = 1 << 28


class SampleProblem(ValueError):  # noqa: N818
    """A sample that cannot be used. Problems are counted by `kind`. `key` is the sample's name, if it is known."""

    def __init__(self, kind: str, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.kind, self.key = kind, key


@dataclass(frozen=True)
class Sample:
    """`key` names the sample in reports, and its depth file. Images and depth are the undecoded bytes of files."""

    key: str
    image: bytes
    caption: str | None
    depth: tuple[bytes, str] | None
    source: bytes | None

    def rgb(self) -> torch.Tensor:
        """(3, H, W) uint8, upright. SampleProblem if it is not an image."""
        return _decoded(self.image, self.key)

    def source_rgb(self) -> torch.Tensor | None:
        """The same for the image before an edit."""
        return None if self.source is None else _decoded(self.source, f"{self.key} (source)")

    def metric_depth(self) -> MetricDepth:
        """The depth at its file's size. SampleProblem if it is missing or damaged, or has NaN values."""
        if self.depth is None:
            raise SampleProblem("missing_depth", "it has no depth file; run `label`, or name the folder in data.depth")
        data, name = self.depth
        try:
            depth = load_depth(data, name, refuse_nan=True)
        except NanDepthError as error:
            raise SampleProblem("nan_depth", str(error)) from error
        except ValueError as error:
            raise SampleProblem("bad_depth", str(error)) from error
        if not bool(depth.valid.any()):
            raise SampleProblem("empty_depth", f"{name} has no surface at all")
        return depth


def _decoded(data: bytes, key: str) -> torch.Tensor:
    """Decode, and rotate as EXIF says: ComfyUI's Load Image does so, and depth is measured on its result."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise SampleProblem("unreadable_image", f"{key}: {image.width}x{image.height} pixels are too many")
            upright = ImageOps.exif_transpose(image).convert("RGB")
            pixels = torch.frombuffer(bytearray(upright.tobytes()), dtype=torch.uint8)
            return pixels.view(upright.height, upright.width, 3).permute(2, 0, 1)
    except SampleProblem:
        raise
    except UnidentifiedImageError as error:  # whose text names an object in memory
        raise SampleProblem("unreadable_image", f"{key}: of no known image format") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise SampleProblem("unreadable_image", f"{key}: {error}") from error

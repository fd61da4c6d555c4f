"""Tells two releases of one base apart by their weights: same names and shapes, other values.

A fingerprint is a sample of one weight matrix. Samples are compared with a tolerance, not hashed, so that a base is
still itself after a conversion to another storage type; a fine-tune that moves its weights less than that is not
noticed, and then hardly matters.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

import numpy
import torch

SAMPLES = 64
# Median relative difference up to which two samples are of one release: bfloat16 rounds by up to 0.4%, 8 bits by 6%.
TOLERANCE = 0.005
TOLERANCE_8_BIT = 0.07
# The matrix of the language model that stands for it, relative to the decoder; of the transformer it is the patch
# embedder's weight.
MLLM_WEIGHT = "layers.0.self_attn.q_proj.weight"
# Ends the bytes of a sample from a file of 8 bits.
_EIGHT_BIT = b"8"


def fingerprint(weight: torch.Tensor, eight_bit: bool = False) -> str:
    """A sample of a matrix (at least SAMPLES values), to be kept in a checkpoint's metadata.

    eight_bit: the matrix comes from a file that has it in 8 bits, though it may be of a finer type by now.
    """
    flat = weight.detach().flatten()
    if flat.numel() < SAMPLES:
        raise ValueError(f"a fingerprint needs {SAMPLES} values, this weight has {flat.numel()}")
    # In whole numbers: floating steps would round differently on other machines.
    index = torch.arange(SAMPLES) * flat.numel() // SAMPLES
    values = flat[index.to(flat.device)].float().cpu().numpy().astype("<f4")
    return base64.b64encode(values.tobytes() + (_EIGHT_BIT if eight_bit else b"")).decode("ascii")


def same_release(first: str, second: str, eight_bit: bool = False) -> bool:
    """Whether two fingerprints are of one release. eight_bit: one of the two was stored in 8 bits, beside those that
    say so themselves."""
    (a, coarse_a), (b, coarse_b) = _values(first), _values(second)
    eight_bit = eight_bit or coarse_a or coarse_b
    scale = numpy.maximum(numpy.abs(a), numpy.abs(b))
    known = scale > 0
    if not known.any():
        return True
    difference = numpy.abs(a - b)[known] / scale[known]
    return float(numpy.median(difference)) <= (TOLERANCE_8_BIT if eight_bit else TOLERANCE)


def check_fingerprints(fingerprints: object) -> None:
    """ValueError unless this is {"mllm": fingerprint, "transformer": fingerprint}, or a part of it."""
    if not isinstance(fingerprints, dict) or not set(fingerprints) <= {"mllm", "transformer"}:
        raise ValueError(f"fingerprints are of 'mllm' and 'transformer', got {fingerprints!r}")
    for sample in fingerprints.values():
        _values(sample)


def short_name(sample: str) -> str:
    """Eight hexadecimal digits that stand for a fingerprint in messages."""
    return hashlib.sha256(sample.encode("ascii")).hexdigest()[:8]


def _values(sample: str) -> tuple[numpy.ndarray, bool]:
    """The values, and whether they come from 8 bits."""
    try:
        data = base64.b64decode(sample, validate=True)
        coarse = len(data) % 4 == 1 and data.endswith(_EIGHT_BIT)
        values = numpy.frombuffer(data[: len(data) - coarse], dtype="<f4")
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"not a fingerprint ({error}); export the checkpoint again") from error
    if values.shape != (SAMPLES,):
        raise ValueError(f"a fingerprint has {SAMPLES} values, this one {values.size}; export the checkpoint again")
    return values, coarse

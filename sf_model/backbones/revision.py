"""Recognises a release of a base by its weights. Releases have the same names and shapes, but other values.

A fingerprint is a sample of one weight matrix. Samples are compared with a tolerance, so a base is still recognised
after a conversion to another storage type. A fine-tune that changes its weights by less is not noticed, and hardly
matters.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

import numpy
import torch

SAMPLES = 64
# Largest median relative difference within one release. bfloat16 rounds by up to 0.4%, 8 bits by 6%.
TOLERANCE = 0.005
TOLERANCE_8_BIT = 0.07
# The language model's fingerprint is of this matrix of its decoder. The transformer's is of the patch embedder.
MLLM_WEIGHT = "layers.0.self_attn.q_proj.weight"
# The last byte of a sample from an 8-bit file.
_EIGHT_BIT = b"8"


def fingerprint(weight: torch.Tensor, eight_bit: bool = False) -> str:
    """A sample of a matrix, as text for a checkpoint's metadata. ValueError for fewer than SAMPLES values.

    eight_bit: the matrix comes from a file with 8 bits, although it may have a finer type now.
    """
    flat = weight.detach().flatten()
    if flat.numel() < SAMPLES:
        raise ValueError(f"a fingerprint needs {SAMPLES} values, this weight has {flat.numel()}")
    # In integers: floating-point steps could round differently on other machines.
    index = torch.arange(SAMPLES) * flat.numel() // SAMPLES
    values = flat[index.to(flat.device)].float().cpu().numpy().astype("<f4")
    return base64.b64encode(values.tobytes() + (_EIGHT_BIT if eight_bit else b"")).decode("ascii")


def same_release(first: str, second: str, eight_bit: bool = False) -> bool:
    """Whether two fingerprints are of one release. ValueError for text that is not a fingerprint.

    eight_bit: one of the two is from 8 bits, even if it does not state it.
    """
    (a, eight_bit_a), (b, eight_bit_b) = _values(first), _values(second)
    eight_bit = eight_bit or eight_bit_a or eight_bit_b
    scale = numpy.maximum(numpy.abs(a), numpy.abs(b))
    nonzero = scale > 0
    if not nonzero.any():
        return True
    difference = numpy.abs(a - b)[nonzero] / scale[nonzero]
    return float(numpy.median(difference)) <= (TOLERANCE_8_BIT if eight_bit else TOLERANCE)


def check_fingerprints(fingerprints: object) -> None:
    """ValueError unless this is {"mllm": fingerprint, "transformer": fingerprint}. Both are optional."""
    if not isinstance(fingerprints, dict) or not set(fingerprints) <= {"mllm", "transformer"}:
        raise ValueError(f"fingerprints are of 'mllm' and 'transformer', got {fingerprints!r}")
    for sample in fingerprints.values():
        _values(sample)


def short_name(sample: str) -> str:
    """A fingerprint's name in messages: eight hexadecimal digits."""
    return hashlib.sha256(sample.encode("ascii")).hexdigest()[:8]


def _values(sample: str) -> tuple[numpy.ndarray, bool]:
    """The values, and whether they are from 8 bits."""
    try:
        data = base64.b64decode(sample, validate=True)
        eight_bit = len(data) % 4 == 1 and data.endswith(_EIGHT_BIT)
        values = numpy.frombuffer(data[: len(data) - eight_bit], dtype="<f4")
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"export the checkpoint again: not a fingerprint ({error})") from error
    if values.shape != (SAMPLES,):
        raise ValueError(f"export the checkpoint again: a fingerprint has {SAMPLES} values, this one {values.size}")
    return values, eight_bit

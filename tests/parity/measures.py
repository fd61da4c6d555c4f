"""How far two implementations are apart."""

from torch import Tensor


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what is expected, for tensors of one shape."""
    assert actual.shape == expected.shape
    return ((actual - expected).norm() / expected.norm()).item()

"""Light on a surface. Display-referred RGB, no tone mapping."""

from torch import Tensor


def lit(albedo: Tensor, normal_y: Tensor, towards_sun: Tensor, ambient: Tensor, sun: Tensor) -> Tensor:
    """Lambert shading with a hemispheric ambient term.

    albedo, ambient, sun: (..., 3). normal_y: world y of the unit normal; negative is up. towards_sun: cosine between
    normal and sun, times the sun's visibility, in [0, 1].
    """
    hemisphere = 0.84 - 0.16 * normal_y
    return albedo * (ambient * hemisphere[..., None] + sun * towards_sun[..., None])

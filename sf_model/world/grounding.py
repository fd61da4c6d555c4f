"""The positions of a scene's objects as text, as in the grounding tasks of multimodal language models."""

from .caption_common import CaptionedScene, name_of, with_article
from .sampling import projected_box
from .scene import Camera, SceneObject


def _percent(share: float) -> str:
    return f"{min(99, max(0, round(100 * share))):02d}"


def _grounded(obj: SceneObject, camera: Camera) -> str:
    box = projected_box(obj, camera)
    assert box is not None  # sampled objects are in front of the camera
    centre = _percent((box.left + box.right) / 2), _percent((box.top + box.bottom) / 2)
    extent = _percent(box.right - box.left), _percent(box.bottom - box.top)
    return " ".join((with_article(name_of(obj)), *centre, *extent, f"{box.depth_m:.1f} m"))


def ground(captioned: CaptionedScene) -> str:
    """For each object: name, centre column and row, width and height, depth. Example: "a red car 31 58 24 20 6.2 m".

    Positions and sizes are percent of the picture. The depth is that of the nearest corner of the bounding box.
    """
    return ", ".join(_grounded(obj, captioned.scene.camera) for obj in captioned.scene.objects)

"""The config file of a training: YAML into frozen dataclasses, strictly. `configs/*.yaml` show every field."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from ..config import dataclass_from_dict
from .bases.sizes import MiniSizes, smoke_sizes

SETTINGS_VERSION = 3
# Of `on_cuda`: how many times the samples of a step, and the processes that make captions and scenes.
CUDA_SAMPLES, CUDA_WORKERS = 8, 14
# In the order in which they are trained. Each starts from the averaged weights of those before it.
STAGE_NAMES = ("autoencoder", "language", "image", "source", "stage1", "stage2")


@dataclass(frozen=True)
class WeightSettings:
    """Paths of a base's weights: .safetensors files, or folders of them."""

    text_encoder: str
    diffusion_model: str
    vae: str
    # DINOv2, for edit pairs.
    vision: str | None
    # Folder of a Qwen2 tokenizer.
    tokenizer: str
    # Type of the frozen weights.
    dtype: Literal["bf16", "float32"]


@dataclass(frozen=True)
class SpatialSettings:
    """The spatial transformer beside a base that has weights."""

    # A name in sf_model.config.CONFIGS, or a JSON file with a configuration.
    config: str
    # Initialise it from the MLLM's layers.
    from_mllm: bool


@dataclass(frozen=True)
class LabelSettings:
    """How `label` measures depth."""

    # Folder of a transformers depth model.
    teacher: str | None
    # For images without a camera from the model or EXIF. null: such images fail.
    fov_y_deg: float | None
    # Depths from this value on are sky.
    sky_above_m: float
    # Trust a model whose config does not say that it gives metres.
    assume_metric: bool


@dataclass(frozen=True)
class DataSettings:
    """Images on disk, and the store that they are prepared into."""

    kind: Literal["folder", "webdataset", "parquet"]
    # A folder of images, or a pattern of tars or Parquet files.
    path: str
    # Folder of depth files named like the images. null: the samples contain their depth.
    depth: str | None
    # Folder of the store.
    prepared: str
    # The aspect buckets: pixels of an image, step of a side, largest ratio of the sides.
    area_px: int
    bucket_step: int
    max_aspect: float
    # Images that would be enlarged by a larger factor are left out.
    max_upscale: float
    # Depth is stored at every n-th pixel.
    depth_downscale: int
    # Held-out samples, for the sheets.
    validation_samples: int
    # Skip unusable samples, or stop at the first one.
    problems: Literal["skip", "refuse"]
    # What is computed once and stored.
    cache: Literal["nothing", "latents", "latents+prompts"]
    samples_per_shard: int
    # Largest size of the store.
    max_gb: float


@dataclass(frozen=True)
class CaptionShares:
    """Shares of the kinds of captions. GenSpace's nine sub-domains share the rest."""

    plain: float
    view: float
    free: float


@dataclass(frozen=True)
class LateSettings:
    """What changes in the last part of a stage: larger pictures, and edits, which come last."""

    # The first step with these settings.
    from_step: int
    image_sizes: tuple[int, ...]
    edits: float


@dataclass(frozen=True)
class WorldSettings:
    """Samples of the synthetic world for one stage."""

    # Pixels of a side. The steps take the sizes in turn.
    image_sizes: tuple[int, ...]
    captions: CaptionShares
    # Scenes with more objects are drawn again.
    max_objects: int
    # Share of the steps that edit a source image.
    edits: float
    # Size of the fixed training set; 0 means unlimited. A fixed set has its own captions and no edits.
    scenes: int
    # Held-out samples, for the sheets.
    validation_samples: int
    # Rays per pixel along one axis, for the colours.
    supersample: int
    # Steps whose captions are drawn together and sorted by length. More steps need less padding.
    length_buckets: int
    # null: all steps are alike.
    late: LateSettings | None
    # Where pictures are rendered: in the processes that make batches, or on the training's own device.
    render_on: Literal["workers", "device"]

    @property
    def has_edits(self) -> bool:
        return self.edits > 0 or (self.late is not None and self.late.edits > 0)


@dataclass(frozen=True)
class LoopSettings:
    """How long a stage learns, and how fast."""

    steps: int
    # Samples per step, of all processes together.
    batch_size: int
    # Samples that one process computes at once.
    micro_batch: int
    learning_rate: float
    # Rate of Muon, which then trains the matrices of transformers' layers; AdamW trains the rest. null: AdamW alone.
    matrix_rate: float | None
    # Linear warm-up, then constant, then linear to 2% over the last decay_steps.
    warmup_steps: int
    decay_steps: int
    # Only of matrices. Norms, biases and embeddings have none.
    weight_decay: float
    gradient_clip: float
    # Decay of the exponential moving average. The average is exported.
    ema_decay: float
    seed: int
    mixed_precision: Literal["no", "bf16"]
    # Recompute the diffusion transformer's blocks in the backward pass.
    gradient_checkpointing: bool
    # torch.compile of the repeated layers.
    compile: bool
    # Processes that make batches; 0 uses the main process.
    workers: int
    log_every: int
    save_every: int
    sheet_every: int


@dataclass(frozen=True)
class DiffusionSettings:
    """Noise times and dropouts of the image's diffusion."""

    # Mean and standard deviation of the logit-normal times. A negative mean gives noisier samples.
    time_mean: float
    time_std: float
    # Shares of the samples without caption, without depth, and (in addition) without both.
    caption_dropout: float
    depth_dropout: float
    joint_dropout: float
    # Draws of noise and time for each image. Its prompt and its latent are computed once for all of them.
    draws: int


@dataclass(frozen=True)
class DepthSettings:
    """Training of the depth predictor."""

    # Share of the samples predicted from a noisy depth, which trains sampling. 0 trains only the mean.
    flow: float
    # Mean and standard deviation of the noisy depths' logit-normal times.
    time_mean: float
    time_std: float
    # Share of the samples with a noisy depth that get no prompt, for guidance.
    prompt_dropout: float
    # Share of the samples that get no layout, so that the prompt alone is read too.
    layout_dropout: float
    # Draws of noise and time for each image (stage 1). Its prompt is read once for all of them.
    draws: int


@dataclass(frozen=True)
class DocumentSettings:
    """Documents and losses of the language model's stage."""

    # Only captions that fix a scene of one or two objects, in the first steps.
    easy_steps: int
    # Relative shares of 1, 2, 3 and 4 objects in captions that fix their scene.
    free_objects: tuple[float, float, float, float]
    # Captions of each such scene.
    descriptions: int
    # Share of the steps whose documents end with the layout as text.
    answers: float
    # Draws of noise and time for the layout of each caption.
    draws: int
    # Mean and standard deviation of the noisy layouts' logit-normal times.
    time_mean: float
    time_std: float
    # Share of the layouts that are predicted without the prompt, for guidance.
    prompt_dropout: float


@dataclass(frozen=True)
class FusionSettings:
    """Settings of stage 2 only."""

    # lambda of L_diffusion + lambda * L_depth.
    depth_weight: float
    # Share of the samples whose scaffold is the true depth; the paper has 0.
    true_depth: float
    # Train only the adapter and the diffusion transformer.
    freeze_predictor: bool
    # null trains the whole diffusion transformer.
    lora_rank: int | None
    lora_alpha: float


@dataclass(frozen=True)
class StageSettings:
    """One stage. Groups that it does not use are null."""

    loop: LoopSettings
    world: WorldSettings | None
    diffusion: DiffusionSettings | None
    depth: DepthSettings | None
    fusion: FusionSettings | None
    documents: DocumentSettings | None


@dataclass(frozen=True)
class TrainingSettings:
    """One config file."""

    # A name in sf_model.backbones.
    base: Literal["mini", "omnigen2", "qwen_image", "qwen_image_edit"]
    # Folder of the stages' runs.
    runs: str
    # Runs of earlier stages in other folders: the run's folder, by the stage's name.
    starts: dict[str, str]
    # Both: only for a base with released weights.
    weights: WeightSettings | None
    spatial: SpatialSettings | None
    # Only for a base that is trained from scratch.
    system: MiniSizes | None
    label: LabelSettings | None
    # null: each stage makes its data from the synthetic world.
    data: DataSettings | None
    autoencoder: StageSettings | None
    language: StageSettings | None
    image: StageSettings | None
    source: StageSettings | None
    stage1: StageSettings | None
    stage2: StageSettings | None

    def stage(self, name: str) -> StageSettings:
        """ValueError if the file has no such stage."""
        found = getattr(self, name) if name in STAGE_NAMES else None
        if found is None:
            raise ValueError(f"the config has no stage {name!r}; it has {', '.join(self.stages)}")
        return found

    @property
    def stages(self) -> list[str]:
        """Names of the stages that the file has, in their order."""
        return [name for name in STAGE_NAMES if getattr(self, name) is not None]


def load_settings(path: Path) -> TrainingSettings:
    """Read and check a config file of any version. Relative paths in it start at the working directory.

    ValueError, with the file's name and the field's path, for anything that is wrong.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such config file; copy one of configs/*.yaml and fill in your paths")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML ({error})") from error
    try:
        return settings_from_dict(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def settings_from_dict(values: Any) -> TrainingSettings:
    """Checked settings of plain values. ValueError with the field's path."""
    settings: TrainingSettings = dataclass_from_dict(TrainingSettings, migrated(values), "config")
    _check_parts(settings)
    for name in settings.stages:
        _check_stage(settings.stage(name), name, settings.data is None)
    _check_together(settings)
    return settings


def migrated(values: Any) -> Any:
    """Convert the fields of a config file of any version to SETTINGS_VERSION, without the version.

    Version 1 had no version field, and each stage was one flat list. ValueError for a newer version.
    """
    if not isinstance(values, dict):
        return values
    values = dict(values)
    version = values.pop("version", 1)
    if version not in range(1, SETTINGS_VERSION + 1):
        raise ValueError(f"config.version is {version!r}, this code reads up to {SETTINGS_VERSION}; update it")
    if version == 1:
        values = {"starts": {}, "system": None, "language": None, "image": None, "source": None, **values}
        for name in ("stage1", "stage2"):
            if isinstance(values.get(name), dict) and "loop" not in values[name]:
                values[name] = _migrated_stage(values[name], name)
    return _with_version_3(values) if version < 3 else values


def _with_version_3(values: dict[str, Any]) -> dict[str, Any]:
    """Version 2 had pixels for latents, and AdamW alone."""
    values = {"autoencoder": None, **values}
    if isinstance(values.get("system"), dict):
        values["system"] = {"autoencoder": None, **values["system"]}
    for name in STAGE_NAMES:
        stage = values.get(name)
        if isinstance(stage, dict) and isinstance(stage.get("loop"), dict):
            if isinstance(stage.get("world"), dict):
                stage = {**stage, "world": {"late": None, "render_on": "workers", **stage["world"]}}
            values[name] = {"documents": None, **stage, "loop": {"matrix_rate": None, **stage["loop"]}}
            if isinstance(stage.get("diffusion"), dict):
                values[name]["diffusion"] = {"draws": 1, **stage["diffusion"]}
            if isinstance(stage.get("depth"), dict):
                values[name]["depth"] = {"layout_dropout": 0.0, **stage["depth"]}
    return values


# The fields of a stage in version 1.
VERSION_1_FIELDS = {
    *("steps", "batch_size", "micro_batch", "learning_rate", "warmup_steps", "weight_decay", "gradient_clip"),
    *("ema_decay", "seed", "time_mean", "time_std", "caption_dropout", "depth_dropout", "depth_weight", "depth_flow"),
    *("depth_time_mean", "depth_time_std", "lora_rank", "lora_alpha", "gradient_checkpointing", "mixed_precision"),
    *("workers", "log_every", "save_every", "sheet_every"),
}


def _migrated_stage(flat: dict[str, Any], name: str) -> dict[str, Any]:
    """A stage of version 1: one flat list of fields, with a cosine in place of the linear decay."""
    missing, unknown = sorted(VERSION_1_FIELDS - set(flat)), sorted(set(flat) - VERSION_1_FIELDS)
    if missing or unknown:
        raise ValueError(f"config.{name}: missing fields {missing}, unknown fields {unknown}")
    flat = {**flat, "decay_steps": flat["steps"], "compile": False, "matrix_rate": None}
    loop = {field.name: flat[field.name] for field in fields(LoopSettings)}
    diffusion = {name: flat[name] for name in ("time_mean", "time_std", "caption_dropout", "depth_dropout")}
    depth = {
        "flow": flat["depth_flow"],
        "time_mean": flat["depth_time_mean"],
        "time_std": flat["depth_time_std"],
        "prompt_dropout": flat["caption_dropout"],
        "layout_dropout": 0.0,
        "draws": 1,
    }
    is_fusion = name == "stage2"
    fusion = {
        "depth_weight": flat["depth_weight"],
        "true_depth": 0.0,
        "freeze_predictor": False,
        "lora_rank": flat["lora_rank"],
        "lora_alpha": flat["lora_alpha"],
    }
    return {
        "loop": loop,
        "world": None,
        "diffusion": {**diffusion, "joint_dropout": 0.0, "draws": 1} if is_fusion else None,
        "depth": depth,
        "fusion": fusion if is_fusion else None,
        "documents": None,
    }


def on_cuda(settings: TrainingSettings) -> TrainingSettings:
    """The same training for one data-centre GPU: larger steps, compiled layers in bf16, pictures rendered there.

    A step of CUDA_SAMPLES times the samples needs about as long as a small one, which keeps no GPU busy. The rates
    stay.
    """
    if settings.system is None:
        raise ValueError("--cuda is for a base that is trained from scratch (configs/mini.yaml)")
    larger = {}
    for name in settings.stages:
        stage = settings.stage(name)
        size = stage.loop.batch_size * CUDA_SAMPLES
        loop = replace(
            stage.loop, batch_size=size, micro_batch=size, mixed_precision="bf16", compile=True, workers=CUDA_WORKERS
        )
        larger[name] = replace(stage, loop=loop, world=replace(stage.world, render_on="device"))
    return replace(settings, **larger)


def smoke(settings: TrainingSettings) -> TrainingSettings:
    """The same training, tiny: two steps of two samples a stage, networks of a few thousand weights."""
    if settings.system is None:
        raise ValueError("--smoke is for a base that is trained from scratch (configs/mini.yaml)")
    sizes, tiny = smoke_sizes(), {}
    for name in settings.stages:
        stage = settings.stage(name)
        loop = replace(
            stage.loop,
            steps=2,
            batch_size=2,
            micro_batch=2,
            warmup_steps=1,
            decay_steps=1,
            workers=0,
            log_every=1,
            save_every=2,
            sheet_every=2,
            compile=False,
            mixed_precision="no",
        )
        world = stage.world and replace(
            stage.world, image_sizes=(sizes.image_size,), validation_samples=2, length_buckets=1, late=None
        )
        tiny[name] = replace(stage, loop=loop, world=world)
    return replace(settings, system=sizes, **tiny)


SHARES = (
    ("depth", "flow"),
    ("depth", "prompt_dropout"),
    ("depth", "layout_dropout"),
    ("world", "edits"),
    ("documents", "answers"),
    ("documents", "prompt_dropout"),
    ("fusion", "true_depth"),
    ("diffusion", "caption_dropout"),
    ("diffusion", "depth_dropout"),
    ("diffusion", "joint_dropout"),
)
# The groups that each stage needs, besides its loop.
GROUPS = {
    "autoencoder": (),
    "language": ("documents",),
    "image": ("diffusion",),
    "source": (),
    "stage1": ("depth",),
    "stage2": ("diffusion", "depth", "fusion"),
}


def _check_parts(settings: TrainingSettings) -> None:
    from_nothing = settings.base == "mini"
    for name, is_needed in (("weights", not from_nothing), ("spatial", not from_nothing), ("system", from_nothing)):
        if (getattr(settings, name) is not None) != is_needed:
            state = "is missing" if is_needed else "must be null"
            raise ValueError(f"config.{name} {state} for the base {settings.base!r}")
    if from_nothing != (settings.data is None):
        raise ValueError(
            "config.data must be null for the base 'mini', which learns from the synthetic world, and only for it"
        )
    if settings.system is not None and settings.system.tokenizer_captions < 1:
        raise ValueError("config.system.tokenizer_captions must be at least 1: the vocabulary is learned from them")
    if settings.data is not None and settings.data.validation_samples < 1:
        raise ValueError("config.data.validation_samples must be at least 1")
    unknown = sorted(set(settings.starts) - set(STAGE_NAMES))
    if unknown:
        raise ValueError(f"config.starts names stages that do not exist: {unknown}; choose of {STAGE_NAMES}")


def _check_stage(stage: StageSettings, name: str, from_world: bool) -> None:
    loop = stage.loop
    for field in ("steps", "batch_size", "micro_batch", "log_every", "save_every", "sheet_every"):
        if getattr(loop, field) < 1:
            raise ValueError(f"{name}.loop.{field} must be at least 1")
    if loop.batch_size % loop.micro_batch:
        raise ValueError(f"{name}.loop.micro_batch {loop.micro_batch} does not divide batch_size {loop.batch_size}")
    for group in ("diffusion", "depth", "fusion", "documents"):
        if (getattr(stage, group) is not None) != (group in GROUPS[name]):
            state = "is missing" if group in GROUPS[name] else "must be null"
            raise ValueError(f"{name}.{group} {state}")
    if (stage.world is not None) != from_world:
        raise ValueError(f"{name}.world {'is missing' if from_world else 'must be null where config.data is given'}")
    if stage.world is not None:
        _check_world(stage.world, name)
    for group, field in SHARES:
        value = getattr(getattr(stage, group), field, 0.0)
        if not 0 <= value <= 1:
            raise ValueError(f"{name}.{group}.{field} {value} is a share of the samples: from 0 to 1")


def _check_world(world: WorldSettings, name: str) -> None:
    if world.scenes < 0 or (world.scenes and world.has_edits):
        raise ValueError(
            f"{name}.world.scenes must not be negative. Above 0, set {name}.world.edits to 0: a fixed training "
            "set has no edits"
        )
    if world.validation_samples < 1:
        raise ValueError(f"{name}.world.validation_samples must be at least 1")


def _check_together(settings: TrainingSettings) -> None:
    """Check what a stage requires of the base and of the stages before it."""
    if settings.language is not None and settings.language.loop.micro_batch != settings.language.loop.batch_size:
        raise ValueError(
            f"set language.loop.micro_batch to its batch_size ({settings.language.loop.batch_size}): some of its "
            "losses are means over all objects of a step"
        )
    first, second = settings.stage1, settings.stage2
    for name in settings.stages:
        world = settings.stage(name).world
        if world is None:
            continue
        if name == "image" and world.has_edits:
            raise ValueError("image.world.edits must be 0: stage2 is the first that learns to see a source image")
        patch = settings.system.patch_px
        for sizes in (world.image_sizes, *([] if world.late is None else [world.late.image_sizes])):
            if not sizes or any(size < 1 or size % patch for size in sizes):
                raise ValueError(f"{name}.world.image_sizes {list(sizes)} must be multiples of {patch}")
        if world.has_edits and settings.source is None:
            raise ValueError(f"{name}.world.edits must be 0 without the stage 'source', which learns to see sources")
    if first is None or second is None or second.fusion.freeze_predictor:
        return
    if first.depth.flow > 0 and second.depth.flow == 0:
        raise ValueError(
            "stage2.depth.flow must be above 0, or stage2.fusion.freeze_predictor true: the flow that stage 1 trained "
            "would not fit the predictor any more"
        )

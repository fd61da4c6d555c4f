"""The fields of a config file of training. `configs/*.yaml` show and explain each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..bases.sizes import MiniSizes

SETTINGS_VERSION = 3
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

"""The computed table against sums by hand, the bytes of a tiny training, and what real blocks keep for backward."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn as nn
from diffusers import QwenImageTransformer2DModel

from sf_model.models.depth_predictor import DepthPredictor
from sf_model.models.expert_inputs import ExpertInputs
from sf_model.training.average import ParameterAverage
from sf_model.training.bases.loading import spatial_config
from sf_model.training.bases.omnigen2_transformer import OmniGen2Config, OmniGen2Transformer
from sf_model.training.optimiser import trainable_parameters
from sf_model.training.settings import load_settings
from sf_model.training.stages import STAGES
from sf_model.training.system import System
from tests.training import tiny_bases, tiny_data
from tests.training.run_command import run_command
from tools.counting import spatial_flops
from tools.preparation_cost import DEPTH_DOWNSCALE, counted_flops, depth_pro, preparations, stored_bytes
from tools.preparation_cost import figures as preparation_figures
from tools.training_cost import (
    ACTIVATION_WIDTHS,
    CAST_BYTES,
    GIB,
    PEAK_FLOPS,
    UTILISATION,
    BaseCost,
    Plan,
    bases,
    counted_activations,
    figures,
    plans,
    spatial_activations,
)

NOTHING_DROPPED = {f"diffusion__{name}_dropout": 0.0 for name in ("caption", "depth", "joint")}
# Words of a prompt, and patches of an image of 256 pixels' side.
TOKENS = 20 + 256


def test_counts_and_sums_by_hand() -> None:
    omnigen2, qwen = bases()
    assert omnigen2.transformer_parameters == 3_967_161_400
    assert qwen.transformer_parameters == pytest.approx(20.4e9, rel=0.01)
    # The tower has 0.68 B, the video autoencoder 0.13 B.
    assert qwen.other_parameters == pytest.approx(0.80e9, rel=0.02)
    plan = Plan(omnigen2, "stage2", 1024, None, 1000, 8)
    # 4096 + 200 tokens: 2 * 3.967e9 * 4296 = 3.41e13 and 4 * 32 * 4296^2 * 2520 = 5.95e12; four passes of both.
    transformer = 4 * (3.409e13 + 5.953e12)
    # The MLLM on 200 tokens, for a tenth of the samples twice; the spatial transformer, head and adapter three times.
    total = transformer + 1.1 * 2 * (3.086e9 - 0.311e9) * 200 + 3 * spatial_flops(omnigen2.config, 1024, 200)
    assert plan.flops_per_sample() == pytest.approx(total, rel=0.001)
    # The spatial transformer alone: 0.16 B parameters on 32 x 32 queries; the head's convolutions are of that size too.
    assert 2 * 0.16e9 * 1024 < spatial_flops(omnigen2.config, 1024, 200) < 2e12
    assert plan.hours(8) == pytest.approx(8000 * total / (8 * PEAK_FLOPS * UTILISATION) / 3600, rel=0.001)
    assert plan.dollars(8) == pytest.approx(plan.dollars(64))
    # 20 bytes for each trained parameter, 2 for each of the MLLM's; 33 layers' inputs, and what one block keeps.
    at_least = (20 * plan.trained_parameters() + 2 * 3.09e9) / GIB
    assert at_least < plan.memory_gib(1, False) < at_least + 12
    assert plan.memory_gib(8, True) < plan.memory_gib(1, False) / 4


def test_the_plans_are_the_configs(repository: Path) -> None:
    for plan in plans():
        loop = load_settings(repository / f"configs/{plan.base.name}.yaml").stage(plan.stage).loop
        assert (plan.steps, plan.batch_size, plan.micro_batch) == (loop.steps, loop.batch_size, loop.micro_batch)


@pytest.mark.parametrize(("stage", "lora_rank"), [("stage1", None), ("stage2", None), ("stage2", 4)])
def test_a_tiny_training_holds_the_bytes_that_are_computed(stage: str, lora_rank: int | None, tmp_path: Path) -> None:
    """Weights, gradients, Adam's moments and averages after a step of an edit, in which everything learns."""
    base = tiny_bases.load_base("omnigen2", tiny_bases.write_weights("omnigen2", tmp_path), torch.bfloat16)
    config = tiny_bases.spatial_config("omnigen2", source=False)
    counts = {name: sum(p.numel() for p in getattr(base, name).parameters()) for name in ("text_encoder", "vae")}
    linear = [m for n, m in base.transformer.named_modules() if isinstance(m, nn.Linear) and _has_lora(n)]
    plan = Plan(
        BaseCost(
            "tiny",
            config,
            counts["text_encoder"],
            tiny_bases.VOCABULARY * tiny_bases.HIDDEN,
            tiny_bases.HIDDEN,
            counts["vae"],
            sum(p.numel() for p in base.transformer.parameters()),
            2,
            48,
            sum(module.in_features + module.out_features for module in linear),
        ),
        stage,
        64,
        lora_rank,
        1,
        1,
    )
    changes = {} if stage == "stage1" else {"fusion__lora_rank": lora_rank, **NOTHING_DROPPED}
    trained = STAGES[stage](System(base, config, seed=0), tiny_data.stage_settings(stage, **changes))
    trained.release_unused(has_prompts=False)
    parameters = trainable_parameters(trained)
    optimizer = torch.optim.AdamW(parameters.values())
    average = ParameterAverage(parameters, 0.9)
    ids, mask = base.tokens.batch(["a red car"], False)
    latent = torch.randn(1, 16, 8, 8)
    empty_ids, empty_mask = base.tokens.batch([""], False)
    batch = {"input_ids": ids, "prompt_mask": mask, "empty_ids": empty_ids, "empty_mask": empty_mask}
    batch |= {"noise_seed": torch.tensor([1]), "latent": latent}
    batch |= {"source": torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "source_latent": latent}
    batch |= {"depth_m": torch.full((1, 64, 64), 3.0), "fov_y_deg": torch.tensor([50.0])}
    for _ in range(2):  # a LoRA's first matrix has no gradient before its second one is not zero any more
        with torch.autocast("cpu", torch.bfloat16):
            trained(batch)["loss"].backward()
        optimizer.step()
    held = [
        *trained.parameters(),
        *(p.grad for p in parameters.values() if p.grad is not None),
        *average.values.values(),
    ]
    held += [value for state in optimizer.state.values() for name, value in state.items() if name != "step"]
    assert sum(value.nbytes for value in held) == pytest.approx(plan.state_bytes(), rel=0.01)


def _has_lora(name: str) -> bool:
    return "attn." in name or "feed_forward" in name


def _kept_widths(build: object, run: object, blocks: str, width: int) -> float:
    """bf16 activations that a block keeps for its backward pass a token, in units of its width."""
    sums = []
    for layers in (1, 3):
        module = build(layers)  # type: ignore[operator]
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False), counted_activations(module) as kept:
            run(module)  # type: ignore[operator]
        sums.append(sum(kept.values()))
    casts = CAST_BYTES * sum(parameter.numel() for parameter in getattr(module, blocks)[0].parameters())
    return ((sums[1] - sums[0]) / 2 - casts) / (2 * TOKENS * width)


def test_blocks_keep_what_is_assumed() -> None:
    """At a quarter of the real width, with the real proportions."""
    text, latent, time = torch.randn(1, 20, 64), torch.randn(1, 16, 32, 32), torch.tensor([0.3])
    omnigen2 = _kept_widths(
        lambda layers: OmniGen2Transformer(
            OmniGen2Config(
                hidden_size=600,
                num_attention_heads=5,
                num_kv_heads=5,
                num_layers=layers,
                num_refiner_layers=1,
                text_feat_dim=64,
            )
        ),
        lambda module: module(latent, time, text, torch.ones(1, 20, dtype=torch.bool)),
        "layers",
        600,
    )
    qwen = _kept_widths(
        lambda layers: QwenImageTransformer2DModel(
            num_layers=layers, attention_head_dim=128, num_attention_heads=4, joint_attention_dim=64
        ),
        lambda module: module(torch.randn(1, 256, 64), text, None, time, img_shapes=[[(1, 16, 16)]]),
        "transformer_blocks",
        512,
    )
    assert min(omnigen2, qwen) > 0.6 * ACTIVATION_WIDTHS, (omnigen2, qwen)
    # On the CPU, OmniGen2's attention keeps its scores besides.
    assert max(omnigen2, qwen) < 1.15 * ACTIVATION_WIDTHS, (omnigen2, qwen)


def test_the_predictor_keeps_what_is_counted_without_memory() -> None:
    config = tiny_bases.spatial_config("omnigen2", source=False)
    predictor = DepthPredictor(config)
    pair = torch.randn(1, config.mllm.num_kv_heads, 200, config.mllm.head_dim)
    with counted_activations(predictor) as kept:
        predictor(ExpertInputs([(pair, pair)] * config.mllm.num_layers, 128, 128))
    counted = spatial_activations(config, 128)
    assert 0.7 * counted < sum(kept.values()) < counted


def test_the_page_s_figures_are_what_the_program_computes(repository: Path) -> None:
    assert figures() == json.loads((repository / "docs/figures/training_cost.json").read_text(encoding="utf-8"))


def test_preparation_by_hand() -> None:
    label, latents, with_prompts, *_ = preparations()
    # Depth Pro: 25 + 9 + 1 patches, the image and the camera's view of it, each 577 tokens of a ViT-L (303 M).
    encoders = 37 * 2 * 303e6 * 577
    assert sum(value.numel() for value in depth_pro_on_meta()) == pytest.approx(952e6, rel=0.001)
    assert encoders < label.flops < 2 * encoders
    # Its first convolution alone: 3 x 3 x 3 values for each of 128 channels and 1024 x 1024 pixels.
    assert counted_flops(lambda: nn.Conv2d(3, 128, 3, padding=1), lambda conv: conv(torch.zeros(1, 3, 1024, 1024))) == (
        2 * 27 * 128 * 1024**2
    )
    assert with_prompts.flops - latents.flops == pytest.approx(2 * (3.086e9 - 0.311e9) * 230, rel=0.001)
    assert label.gpu_hours() == pytest.approx(1e6 * label.flops / (989e12 * 0.15) / 3600)
    # 16 x 128 x 128 numbers of the latent and 256 x 256 metres, two bytes each.
    assert latents.stored_bytes == 2 * (16 * 128**2 + 256**2)


def depth_pro_on_meta() -> list[torch.Tensor]:
    with torch.device("meta"):
        return list(depth_pro().parameters())


def test_a_prepared_sample_has_the_bytes_that_are_computed(tmp_path: Path) -> None:
    tiny_data.write_images(tmp_path)
    weights = tiny_bases.write_weights("omnigen2", tmp_path / "weights")
    config = tiny_data.write_config(
        tmp_path,
        "omnigen2",
        weights,
        edits=False,
        data__cache="latents+prompts",
        data__depth_downscale=DEPTH_DOWNSCALE,
        weights__dtype="bf16",
    )
    run_command("cache", config)
    spatial = spatial_config(load_settings(config))
    tensors = safetensors.torch.load_file(sorted((tmp_path / "prepared").glob("*.safetensors"))[0])
    sample = {name: value for name, value in tensors.items() if name.startswith("0.")}
    tokens, hidden = sample["0.hidden"].shape
    computed = stored_bytes(spatial, 64, hidden, tokens, len(sample["0.empty_hidden"]), prompts=True)
    assert sum(value.numel() * value.element_size() for value in sample.values()) == computed


def test_so_are_the_preparation_s(repository: Path) -> None:
    written = (repository / "docs/figures/preparation_cost.json").read_text(encoding="utf-8")
    assert preparation_figures() == json.loads(written)

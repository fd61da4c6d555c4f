"""The computed table against counts and sums by hand."""

import pytest

from sf_model.training.cost import GIB, PEAK_FLOPS, UTILISATION, Plan, bases, spatial_flops, table


def test_counts_and_sums_by_hand() -> None:
    omnigen2, qwen = bases()
    assert omnigen2.transformer_parameters == 3_967_161_400
    assert qwen.transformer_parameters == pytest.approx(20.4e9, rel=0.01)
    plan = Plan(omnigen2, "stage2", 1024, None, 1000, 8)
    # 4096 + 200 tokens: 2 * 3.967e9 * 4296 = 3.41e13 and 4 * 32 * 4296^2 * 2520 = 5.95e12; four passes of both.
    transformer = 4 * (3.409e13 + 5.953e12)
    # The MLLM once, on 200 tokens; the spatial transformer, its head and the adapter three times.
    total = transformer + 2 * 3.086e9 * 200 + 3 * spatial_flops(omnigen2.config, 1024)
    assert plan.flops_per_sample() == pytest.approx(total, rel=0.001)
    # The spatial transformer alone: 0.16 B parameters on 32 x 32 queries; the head's convolutions are of that size too.
    assert 2 * 0.16e9 * 1024 < spatial_flops(omnigen2.config, 1024) < 2e12
    assert plan.hours(8) == pytest.approx(8000 * total / (8 * PEAK_FLOPS * UTILISATION) / 3600, rel=0.001)
    assert plan.dollars(8) == pytest.approx(plan.dollars(64))
    # 20 bytes for each trained parameter, 2 for each of the MLLM's.
    at_least = (20 * plan.trained_parameters() + 2 * 3.09e9) / GIB
    assert at_least < plan.memory_gib(1, False) < at_least + 12
    assert plan.memory_gib(8, True) < plan.memory_gib(1, False) / 4


def test_the_page_shows_what_the_program_prints(repository) -> None:
    assert table() in (repository / "docs/training.md").read_text(encoding="utf-8")

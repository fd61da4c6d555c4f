"""bfloat16 where a virtual machine announces instructions that it refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sf_model.training import processor
from sf_model.training.processor import PROBE, WITHOUT_AMX, limited_instructions

DIES = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGILL)"]


def processor_of(flags: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(processor.LIMIT, raising=False)
    monkeypatch.setattr(processor, "CPU_INFO", tmp_path / "cpuinfo")
    processor.CPU_INFO.write_text(f"flags : fpu {flags} sse2\n", encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to end by")
def test_refused_instructions_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processor_of("amx_bf16 amx_tile", tmp_path, monkeypatch)
    assert limited_instructions(DIES) == WITHOUT_AMX
    # Another failure is not this one.
    assert limited_instructions([sys.executable, "-c", "raise SystemExit(1)"]) == {}
    # Who has chosen instructions keeps them.
    monkeypatch.setenv(processor.LIMIT, "AVX2")
    assert limited_instructions(DIES) == {}


def test_nothing_is_tried_where_nothing_is_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processor_of("avx2", tmp_path, monkeypatch)
    assert limited_instructions(DIES) == {}


def test_bfloat16_works_here_with_what_is_said_of_this_machine() -> None:
    probe = [sys.executable, "-c", PROBE]
    assert subprocess.run(probe, env=os.environ | limited_instructions(probe)).returncode == 0

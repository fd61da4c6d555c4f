"""The depth on a MODEL belongs to each sampling run: runs that nest, interleave or fail do not know of each other."""

from __future__ import annotations

import copy
import dataclasses
import gc
import importlib.util
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.model_patcher
import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP

from tests.host.tiny_checkpoints import ARCHITECTURES, tiny_config, write_tiny_checkpoint

STEPS = 4
PLACES = ("latent", "token")
SMALL, LARGE = (1, 12, 8), (2, 24, 16)  # batch, rows, columns of a latent
Patcher = comfy.model_patcher.ModelPatcher
Sample = Callable[..., torch.Tensor]


class Setting:
    """A tiny MODEL of one architecture with a depth on it, and what it is sampled with."""

    def __init__(self, architecture: str, place: str, nodes: ModuleType, tiny_bases: ModuleType, folder: Path) -> None:
        self.nodes, self.is_video = nodes, architecture == "qwen_image"
        self.tiny_sizes = lambda: tiny_bases.tiny_sizes(architecture)
        config = tiny_config(architecture, place)  # type: ignore[arg-type]
        path = folder / write_tiny_checkpoint(folder, "tiny.safetensors", config)
        runtime = nodes.runtime
        checkpoint = runtime.loaded_checkpoint.load_checkpoint(path)
        clip = tiny_bases.load_clip(architecture, folder)
        self.loaded = runtime.loaded_checkpoint.load_beside(clip, checkpoint, path, path.name)
        metres = torch.linspace(1, 9, 64).expand(1, 96, 64).clone()
        depth = runtime.depth_control.MetricDepth(metres, torch.ones_like(metres), torch.tensor([60.0]))
        self.control = runtime.depth_control.DepthControl(depth, None, 1.0, start_percent=0.0, end_percent=1.0)
        self.model = self.with_depth(tiny_bases.load_model(architecture, folder))
        self.positive, self.negative = (
            clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("a red chair", "")
        )

    def with_depth(self, model: Patcher) -> Patcher:
        return self.nodes.runtime.injection.inject(model, self.loaded.adapter, self.control, self.loaded.backbone)

    def sample(self, noise: torch.Tensor, model: Patcher | None = None, callback: Any = None) -> torch.Tensor:
        with torch.no_grad():  # which every thread has for itself
            return comfy.sample.sample_custom(
                model or self.model,
                noise,
                3.0,
                comfy.samplers.sampler_object("euler"),
                torch.linspace(1, 0, STEPS + 1),
                self.positive,
                self.negative,
                torch.zeros_like(noise),
                callback=callback,
                disable_pbar=True,
            )

    def noise(self, size: tuple[int, int, int], seed: int) -> torch.Tensor:
        batch, rows, columns = size
        frames = (1,) if self.is_video else ()
        shape = (batch, 16, *frames, rows, columns)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[(architecture, place) for architecture in ARCHITECTURES for place in PLACES], ids="-".join)
def setting(request: pytest.FixtureRequest, nodes: ModuleType, tiny_bases: ModuleType, tmp_path: Path) -> Setting:
    return Setting(*request.param, nodes, tiny_bases, tmp_path)


def after_step(number: int, model: Patcher, action: Callable[[], Any]) -> Callable[..., None]:
    """A callback of a sampler that does something in the middle of the run, and then gives the run its model back."""

    def callback(step: int, *_: Any) -> None:
        if step == number:
            action()
            model.model.current_patcher = model

    return callback


def test_a_run_within_a_run_changes_neither(setting: Setting) -> None:
    """The inner run has another size and another batch."""
    small, large = setting.noise(SMALL, 1), setting.noise(LARGE, 2)
    alone, large_alone = setting.sample(small), setting.sample(large)
    inner = []
    callback = after_step(1, setting.model, lambda: inner.append(setting.sample(large)))
    assert torch.equal(setting.sample(small, callback=callback), alone)
    assert torch.equal(inner[0], large_alone)


def test_a_run_that_fails_within_a_run_changes_nothing(setting: Setting) -> None:
    small, large = setting.noise(SMALL, 1), setting.noise(LARGE, 2)
    alone = setting.sample(small)

    def fail(*_: Any) -> None:
        raise RuntimeError("stopped")

    def failing_run() -> None:
        with pytest.raises(RuntimeError, match="stopped"):
            setting.sample(large, callback=fail)

    assert torch.equal(setting.sample(small, callback=after_step(1, setting.model, failing_run)), alone)


def test_nothing_of_a_run_is_left_behind(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of one that ended nor of one that failed; the MODEL's own options are as before."""
    runs: list[weakref.ref[Any]] = []
    injection = setting.nodes.runtime.injection

    class WatchedRun(injection.InjectionRun):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            runs.append(weakref.ref(self))

    monkeypatch.setattr(injection, "InjectionRun", WatchedRun)
    options = dict(setting.model.model_options["transformer_options"])
    noise = setting.noise(SMALL, 1)
    setting.sample(noise)

    def fail(*_: Any) -> None:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        setting.sample(noise, callback=fail)
    gc.collect()
    assert len(runs) == 2 and [run() for run in runs] == [None, None]
    assert setting.model.model_options["transformer_options"] == options


def test_copied_options_belong_to_the_same_run(setting: Setting) -> None:
    """Some extensions copy the options of a run as a whole before they use them."""
    noise = setting.noise(SMALL, 1)
    alone = setting.sample(noise)

    def with_a_copy(executor: Any, x: Any, timestep: Any, model_options: dict[str, Any], seed: Any) -> torch.Tensor:
        return executor(x, timestep, copy.deepcopy(model_options), seed)

    model = setting.model.clone()
    model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "probe", with_a_copy)
    assert torch.equal(setting.sample(noise, model), alone)


def test_a_call_outside_of_a_run_is_refused(setting: Setting) -> None:
    (wrapper,) = setting.model.get_wrappers(WrappersMP.APPLY_MODEL, setting.nodes.runtime.injection.KEY)
    x = setting.noise(SMALL, 1)
    with pytest.raises(ValueError, match="sample with KSampler.*without the options of a sampling run"):
        wrapper(lambda *_: x, x, torch.ones(1), None, None, None, {"cond_or_uncond": [0]})


def test_runs_in_two_threads_change_neither(setting: Setting) -> None:
    """They meet before every call of the transformer, when each has told the model which depth is its own."""
    noises = [setting.noise(SMALL, 1), setting.noise(LARGE, 2)]
    alone = [setting.sample(noise) for noise in noises]
    meeting = threading.Barrier(2, timeout=60)

    def meet_before(executor: Any, *arguments: Any, **options: Any) -> torch.Tensor:
        meeting.wait()
        return executor(*arguments, **options)

    def meet_after(executor: Any, *arguments: Any, **options: Any) -> torch.Tensor:
        samples = executor(*arguments, **options)
        meeting.wait()  # the host takes the model back where a run ends
        return samples

    model = setting.model.clone()
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "probe", meet_before)
    model.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, "probe", meet_after)
    together: dict[int, torch.Tensor] = {}

    def run(index: int) -> None:
        together[index] = setting.sample(noises[index], model)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(together[index], alone[index]) for index in range(2))


# What does not depend on the architecture: both places, and both kinds of latent.
TWO_SETTINGS = pytest.mark.parametrize(
    "setting", [("omnigen2", "latent"), ("qwen_image", "token")], indirect=True, ids="-".join
)
NEEDS_SEVERAL_GPUS = pytest.mark.skipif(
    not importlib.util.find_spec("comfy.multigpu"), reason="the oldest host has no nodes for several GPUs"
)


@NEEDS_SEVERAL_GPUS
def test_the_conditions_of_a_run_in_two_threads(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """MultiGPU CFG Split on two names of the CPU: each thread has a model, and each model its own patch embedder."""
    import comfy.model_management
    import comfy.multigpu

    devices = [torch.device("cpu"), torch.device("cpu", 1)]
    monkeypatch.setattr(comfy.model_management, "get_all_torch_devices", lambda exclude_current=False: devices)
    noise = setting.noise(SMALL, 1)
    alone = setting.sample(noise)
    with setting.tiny_sizes():
        split = comfy.multigpu.create_multigpu_deepclones(setting.model, 2)
    threads: set[int] = set()
    adapter_threads: list[int] = []

    def count(executor: Any, *arguments: Any, **options: Any) -> torch.Tensor:
        threads.add(threading.get_ident())
        return executor(*arguments, **options)

    adapter = type(setting.loaded.adapter.model)
    infer = adapter.infer

    def record(*arguments: Any) -> torch.Tensor:
        adapter_threads.append(threading.get_ident())
        return infer(*arguments)

    monkeypatch.setattr(adapter, "infer", record)
    split.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "probe", count)
    torch.testing.assert_close(setting.sample(noise, split), alone, rtol=1e-4, atol=1e-4)
    assert len(threads) == 2
    # Each thread has a current device of its own, which is not the adapter's.
    assert adapter_threads == [threading.get_ident()]
    (other,) = split.get_additional_models_with_key("multigpu")
    with torch.no_grad():
        getattr(other.model.diffusion_model, setting.loaded.backbone.patch_embedder).weight.zero_()
    assert (setting.sample(noise, split) - alone).abs().max() > 0.1


@NEEDS_SEVERAL_GPUS
@TWO_SETTINGS
def test_a_model_that_was_copied_to_another_device_takes_its_own_adapter(setting: Setting) -> None:
    """Select Model Device behind Depth Adapter Apply: the host loads the copy of the adapter, not the original."""
    noise = setting.noise(SMALL, 1)
    alone = setting.sample(noise)
    with setting.tiny_sizes():
        moved = setting.model.deepclone_multigpu(new_load_device=torch.device("cpu", 1))
    (copied,) = moved.get_additional_models_with_key(setting.nodes.runtime.injection.KEY)
    assert copied.model is not setting.loaded.adapter.model
    setting.loaded.adapter.model.zero_output()
    assert (setting.sample(noise) - alone).abs().max() > 0.1
    assert torch.equal(setting.sample(noise, moved), alone)


class OtherLoop:
    """A sampling loop of another extension between the host's and the model: `model_function_wrapper`.

    missing: the options that it does not pass on. parts: into how many calls it divides the rows of one.
    """

    def __init__(self, missing: tuple[str, ...] = (), parts: int = 1) -> None:
        self.missing, self.parts, self.calls = missing, parts, 0

    def __call__(self, apply_model: Callable[..., torch.Tensor], call: dict[str, Any]) -> torch.Tensor:
        options = {name: value for name, value in call["c"].items() if name != "transformer_options"}
        kept = call["c"]["transformer_options"].items()
        transformer_options = {name: value for name, value in kept if name not in self.missing}
        results = []
        for rows in torch.arange(len(call["input"])).chunk(self.parts):
            share = {
                name: value[rows] if isinstance(value, torch.Tensor) and len(value) == len(call["input"]) else value
                for name, value in options.items()
            }
            share["transformer_options"] = transformer_options
            self.calls += 1
            results.append(apply_model(call["input"][rows], call["timestep"][rows], **share))
        return torch.cat(results)


@TWO_SETTINGS
@pytest.mark.parametrize("missing", [("uuids",), ("cond_or_uncond", "uuids")])
def test_loops_that_pass_fewer_options_get_the_same_depth(setting: Setting, missing: tuple[str, ...]) -> None:
    noise = setting.noise(LARGE, 1)
    alone = setting.sample(noise)
    model = setting.model.clone()
    model.set_model_unet_function_wrapper(OtherLoop(missing))
    assert torch.equal(setting.sample(noise, model), alone)


@TWO_SETTINGS
def test_loops_that_call_the_model_for_one_image_of_a_batch_get_the_same_depth(setting: Setting) -> None:
    noise = setting.noise(LARGE, 1)
    alone = setting.sample(noise)
    model = setting.model.clone()
    loop = OtherLoop(("cond_or_uncond", "uuids"), parts=4)
    model.set_model_unet_function_wrapper(loop)
    torch.testing.assert_close(setting.sample(noise, model), alone, rtol=1e-4, atol=1e-4)
    assert loop.calls == 4 * STEPS


@TWO_SETTINGS
def test_loops_that_divide_a_batch_of_depths_are_refused(setting: Setting) -> None:
    """Nothing says which depth belongs to the image that the model is called with."""
    loaded, depth = setting.loaded, setting.control.depth
    two = type(depth)(*(torch.cat([value, value]) for value in (depth.depth, depth.confidence, depth.fov_y_deg)))
    model = setting.nodes.runtime.injection.inject(
        setting.model, loaded.adapter, dataclasses.replace(setting.control, depth=two), loaded.backbone
    )
    model.set_model_unet_function_wrapper(OtherLoop(parts=4))
    with pytest.raises(ValueError, match="connect one geometry.*1 images for . condition.*batch of 2"):
        setting.sample(setting.noise(LARGE, 1), model)

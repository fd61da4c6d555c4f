"""By hand: the loader pack ComfyUI-GGUF in front of the pack's nodes, on tiny GGUF files of the real architectures.

Not a test of the suite, because it needs that pack and its `gguf` package, which this repository does not bring:

    clone ComfyUI-GGUF somewhere, and install `gguf` into a folder of its own (pip install --target FOLDER --no-deps)
    PYTHONPATH=FOLDER .venv/bin/python tests/by_hand/gguf_loader.py PATH_OF_THE_PACK

It prints, per architecture, how far depth and image of the quantised models are from the unquantised ones, and whether
LoRAs on the quantised MODEL and CLIP change them. What it printed last stands in docs/adding_a_base.md.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY)]

import tests.parity.conftest as parity  # noqa: E402, I001  makes the host importable
import comfy.lora  # noqa: E402
import comfy.sample  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.sd  # noqa: E402
import folder_paths  # noqa: E402
import gguf  # noqa: E402
import torch  # noqa: E402

from tests.host.tiny_checkpoints import tiny_config, write_tiny_checkpoint  # noqa: E402
from tests.parity.measures import relative_error  # noqa: E402

PROMPT = "a red chair 2 m away, to the left of a house"
# The pack's names of the two models; it knows no OmniGen2 transformer (its list of image architectures), which is then
# the stock loader's.
ARCHITECTURES: dict[str, tuple[str | None, str]] = {
    "omnigen2": (None, "qwen2vl"),
    "qwen_image": ("qwen_image", "qwen2vl"),
    "z_image": ("lumina2", "qwen3"),
}
LLAMA_NAMES = (
    ("model.layers.", "blk."),
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_norm.", "attn_q_norm."),
    ("self_attn.k_norm.", "attn_k_norm."),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.gate_proj", "ffn_gate"),
    ("post_attention_layernorm", "ffn_norm"),
    ("model.embed_tokens", "token_embd"),
    ("model.norm", "output_norm"),
)


def load_package(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=[str(path.parent)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def write_gguf(path: Path, architecture: str, tensors: dict[str, torch.Tensor]) -> None:
    """Matrices whose rows fill whole blocks as Q8_0, the rest as 32-bit numbers."""
    writer = gguf.GGUFWriter(str(path), architecture)
    for name, value in tensors.items():
        array = value.float().numpy()
        if value.ndim == 2 and value.shape[1] % 32 == 0 and "pad_token" not in name:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def lora(keys: dict[str, str], key: str, shape: tuple[int, int]) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    up, down = (torch.randn(size, generator=generator) * 0.3 for size in ((shape[0], 4), (4, shape[1])))
    return comfy.lora.load_lora({f"{key}.lora_up.weight": up, f"{key}.lora_down.weight": down}, keys)


def sample(nodes: ModuleType, model: Any, loaded: Any, depth: Any, encoded: Any, video: bool) -> torch.Tensor:
    control = nodes.runtime.depth_control.DepthControl(depth, None, 1.0, start_percent=0.0, end_percent=1.0)
    patched = nodes.runtime.injection.inject(model, loaded.adapter, control, loaded.backbone)
    latent = torch.zeros(1, 16, *((1,) if video else ()), 12, 8)
    noise = comfy.sample.prepare_noise(latent, 7)
    sigmas, euler = torch.tensor([1.0, 0.5, 0.0]), comfy.samplers.sampler_object("euler")
    positive = encoded.conditioning
    return comfy.sample.sample_custom(patched, noise, 1.0, euler, sigmas, positive, positive, latent, disable_pbar=True)


@torch.no_grad()
def check(architecture: str, nodes: ModuleType, pack: ModuleType, tiny_bases: ModuleType, folder: Path) -> None:
    image_name, text_name = ARCHITECTURES[architecture]
    transformer, mllm = tiny_bases.transformer_weights(architecture), tiny_bases.mllm_weights(architecture)
    if image_name is not None:
        write_gguf(folder / f"{architecture}.gguf", image_name, transformer)
    renamed = {}
    for name, value in mllm.items():
        if name.startswith("visual."):
            continue  # a file of its own (mmproj) in this format; the prompt alone is read here
        for ours, theirs in LLAMA_NAMES:
            name = name.replace(ours, theirs)
        renamed[name] = value
    write_gguf(folder / f"{architecture}_text.gguf", text_name, renamed)

    real_load = comfy.sd.load_text_encoder_state_dicts
    tiny = {f"{tiny_bases.TEXT_NAMES[architecture]}_model_config": tiny_bases.mllm_config(architecture)}

    def load_text(*arguments: Any, model_options: dict[str, Any], **options: Any) -> Any:
        return real_load(*arguments, model_options={**model_options, **tiny}, **options)

    with tiny_bases.tiny_sizes(architecture), mock.patch.object(comfy.sd, "load_text_encoder_state_dicts", load_text):
        if image_name is not None:
            (model,) = pack.NODE_CLASS_MAPPINGS["UnetLoaderGGUF"]().load_unet(f"{architecture}.gguf")
        kind = tiny_bases.CLIP_TYPES[architecture].lower()
        (clip,) = pack.NODE_CLASS_MAPPINGS["CLIPLoaderGGUF"]().load_clip(f"{architecture}_text.gguf", kind)
    plain_model, plain_clip = (
        tiny_bases.load_model(architecture, folder),
        tiny_bases.load_clip(architecture, folder),
    )
    if image_name is None:
        model = plain_model
    name = write_tiny_checkpoint(folder, f"{architecture}.safetensors", tiny_config(architecture, "token"))
    packed = nodes.runtime.loaded_checkpoint.load_checkpoint(folder / name)

    def run(model: Any, clip: Any) -> tuple[torch.Tensor, torch.Tensor]:
        loaded = nodes.runtime.loaded_checkpoint.load_beside(clip, packed, folder / name, name)
        encoded = nodes.runtime.prompt_capture.encode_prompt(clip, loaded.decoder_path, PROMPT)
        prediction = nodes.runtime.prediction
        sampling = prediction.DepthSampling(prediction.draw_noise(loaded.predictor.model.noise_shape(1, 96, 64), 0))
        depth = prediction.predict_depth(loaded, encoded, 64, 96, None, sampling).depth
        nodes.generate.apply._check_model(model, loaded)
        return depth.log_depth(), sample(nodes, model, loaded, depth, encoded, architecture == "qwen_image")

    depth, image = run(model, clip)
    plain_depth, plain_image = run(plain_model, plain_clip)
    print(f"{architecture}: {type(model).__name__}, {type(clip.patcher).__name__}")
    print(
        f"  depth {relative_error(depth, plain_depth):.4f}, image {relative_error(image, plain_image):.4f} from float32"
    )
    layer = f"text_encoders.{tiny_bases.TEXT_NAMES[architecture]}.transformer.model.layers.1.self_attn.k_proj"
    clip_keys = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, {})
    changed_clip = clip.clone()
    sizes = tiny_bases.MLLM_SIZES[architecture]
    changed_clip.add_patches(lora(clip_keys, layer, (sizes["num_key_value_heads"] * 128, sizes["hidden_size"])), 1.0)
    print(f"  CLIP LoRA: depth changes by {relative_error(run(model, changed_clip)[0], depth):.1e}")
    embedder = "img_in" if architecture == "qwen_image" else "x_embedder"
    model_keys = comfy.lora.model_lora_keys_unet(model.model, {})
    changed_model = model.clone()
    shape = tuple(transformer[f"{embedder}.weight"].shape)
    changed_model.add_patches(lora(model_keys, f"diffusion_model.{embedder}", shape), 1.0)
    print(f"  MODEL LoRA: image changes by {relative_error(run(changed_model, clip)[1], image):.1e}")
    again = run(model, clip)
    print(f"  without them again: {relative_error(again[0], depth):.1e}, {relative_error(again[1], image):.1e}")


def main() -> None:
    load_package("nodes", parity.HOST / "nodes.py")
    nodes = sys.modules[load_package(parity.PACK, REPOSITORY / "__init__.py").__name__]
    nodes = importlib.import_module(f"{nodes.__name__}.nodes")
    tiny_bases = load_package("tiny_bases", REPOSITORY / "tests" / "host" / "probe_nodes" / "tiny_bases.py")
    with tempfile.TemporaryDirectory() as folder:
        for key in ("diffusion_models", "text_encoders"):
            folder_paths.add_model_folder_path(key, folder)
        pack = load_package("gguf_pack", Path(sys.argv[1]).resolve() / "__init__.py")
        for architecture in ARCHITECTURES:
            check(architecture, nodes, pack, tiny_bases, Path(folder))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

"""The small Qwen2.5 decoder against the host's Llama2_: hidden states, and keys and values of every layer."""

from dataclasses import replace

import comfy.ops
import pytest
import torch
from comfy.text_encoders.llama import Llama2_, Qwen25_3BConfig
from transformers import Qwen2ForCausalLM

from sf_model.training.bases.qwen2 import DecoderConfig, build_decoder, prompt_keys_values
from tests.parity.measures import relative_error

TOLERANCE = 1e-5

GQA = DecoderConfig(
    vocab_size=300,
    hidden_size=256,
    intermediate_size=320,
    num_layers=3,
    num_attention_heads=4,
    num_kv_heads=2,
    head_dim=64,
)
# Here the heads are together wider than the hidden size.
WIDE_HEADS = replace(GQA, hidden_size=96, num_kv_heads=1)


def make_decoder(config: DecoderConfig) -> Qwen2ForCausalLM:
    """A decoder in which every parameter matters: biases not zero, norm weights spread around 1."""
    torch.manual_seed(0)
    decoder = build_decoder(config).eval()
    for name, parameter in decoder.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=2 * parameter.shape[-1] ** -0.5)
        else:
            torch.nn.init.normal_(parameter, mean=0.0 if name.endswith("bias") else 1.0, std=0.2)
    return decoder


def make_host(config: DecoderConfig, decoder: Qwen2ForCausalLM) -> Llama2_:
    class HostConfig(Qwen25_3BConfig):
        head_dim = config.head_dim  # not a dataclass field in the host

    host = Llama2_(
        HostConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_attention_heads,
            num_key_value_heads=config.num_kv_heads,
        ),
        device="cpu",
        dtype=torch.float32,
        ops=comfy.ops.disable_weight_init,
    )
    host.load_state_dict(decoder.model.state_dict(), strict=True)
    return host.eval()


@pytest.mark.parametrize("config", [GQA, WIDE_HEADS], ids=["gqa", "wide_heads"])
def test_hidden_states_keys_and_values_equal_host(config: DecoderConfig) -> None:
    decoder = make_decoder(config)
    input_ids = torch.randint(0, config.vocab_size, (2, 19))
    with torch.no_grad():
        hidden, keys_values = prompt_keys_values(decoder, input_ids)
        host_hidden, _, host_keys_values = make_host(config, decoder).forward(input_ids, past_key_values=[])
    assert relative_error(hidden, host_hidden) < TOLERANCE
    assert len(keys_values) == len(host_keys_values) == config.num_layers
    for (key, value), (host_key, host_value, length) in zip(keys_values, host_keys_values):
        assert key.shape == (2, config.num_kv_heads, 19, config.head_dim)
        assert length == 19
        assert relative_error(key, host_key) < TOLERANCE
        assert relative_error(value, host_value) < TOLERANCE


@pytest.mark.parametrize("layer", [0, 1])
def test_a_layer_s_output_equals_the_host_s(layer: int) -> None:
    decoder = make_decoder(GQA)
    input_ids = torch.randint(0, GQA.vocab_size, (2, 19))
    with torch.no_grad():
        hidden, _ = prompt_keys_values(decoder, input_ids, text_layer=layer)
        _, host_hidden = make_host(GQA, decoder).forward(
            input_ids, intermediate_output=layer, final_layer_norm_intermediate=False
        )
    assert relative_error(hidden, host_hidden) < TOLERANCE


def test_a_layer_that_the_decoder_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="text_layer 2 is not one of the first 2 layers"):
        replace(GQA, text_layer=2)


def test_padding_on_the_right_changes_no_token() -> None:
    decoder = make_decoder(GQA)
    host = make_host(GQA, decoder)
    input_ids = torch.randint(0, GQA.vocab_size, (3, 12))
    lengths = [12, 5, 1]
    mask = (torch.arange(12) < torch.tensor(lengths)[:, None]).long()
    with torch.no_grad():
        hidden, keys_values = prompt_keys_values(decoder, input_ids, mask)
        for i, length in enumerate(lengths):
            host_hidden, _, host_keys_values = host.forward(input_ids[i : i + 1, :length], past_key_values=[])
            assert relative_error(hidden[i : i + 1, :length], host_hidden) < TOLERANCE
            for pair, host_pair in zip(keys_values, host_keys_values):
                for tensor, host_tensor in zip(pair, host_pair[:2]):
                    assert relative_error(tensor[i : i + 1, :, :length], host_tensor) < TOLERANCE


def test_keys_are_rotated_and_values_are_not() -> None:
    decoder = make_decoder(GQA)
    input_ids = torch.full((1, 4), 7)
    with torch.no_grad():
        _, keys_values = prompt_keys_values(decoder, input_ids)
    key, value = keys_values[0]  # the same token four times: only its position differs
    torch.testing.assert_close(value[:, :, 1:], value[:, :, :1].expand(-1, -1, 3, -1))
    # Channel 0 turns with channel 32 by one radian a position.
    first, third = key[0, 0, 0, [0, 32]], key[0, 0, 2, [0, 32]]
    cos, sin = torch.tensor(2.0).cos(), torch.tensor(2.0).sin()
    torch.testing.assert_close(third, torch.stack([first[0] * cos - first[1] * sin, first[1] * cos + first[0] * sin]))


def test_padding_on_the_left_is_refused() -> None:
    with pytest.raises(ValueError, match="on the right"):
        prompt_keys_values(make_decoder(GQA), torch.zeros(1, 3, dtype=torch.long), torch.tensor([[0, 1, 1]]))


def test_gradients_reach_the_decoder_through_keys_and_values() -> None:
    decoder = make_decoder(GQA).train()
    _, keys_values = prompt_keys_values(decoder, torch.arange(6)[None])
    sum(key.square().sum() + value.square().sum() for key, value in keys_values).backward()
    assert decoder.model.layers[0].mlp.gate_proj.weight.grad.abs().sum() > 0


def test_settings_reach_transformers() -> None:
    decoder = build_decoder(replace(GQA, tie_word_embeddings=False))
    assert decoder.config.num_hidden_layers == 3
    assert decoder.lm_head.weight is not decoder.model.embed_tokens.weight
    tied = build_decoder(GQA)
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    # Per layer: q, o 2 * 256 * 256, k, v 2 * 256 * 128, biases 512, MLP 3 * 256 * 320, two norms 512.
    layer = 2 * 256 * 256 + 2 * 256 * 128 + 512 + 3 * 256 * 320 + 512
    assert sum(p.numel() for p in tied.parameters()) == 300 * 256 + 3 * layer + 256


def test_rope_theta_reaches_the_keys() -> None:
    input_ids = torch.full((1, 2), 7)
    config = replace(GQA, rope_theta=100.0)
    _, keys_values = prompt_keys_values(make_decoder(config), input_ids)
    first, second = keys_values[0][0][0, 0, :, [1, 33]]
    angle = torch.tensor(100.0 ** (-2 / 64))
    rotated = torch.stack(
        [first[0] * angle.cos() - first[1] * angle.sin(), first[1] * angle.cos() + first[0] * angle.sin()]
    )
    torch.testing.assert_close(second, rotated)

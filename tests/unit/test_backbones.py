import base64
import string

import pytest
import torch

from sf_model.backbones import BACKBONES, backbone_of_transformer, get_backbone
from sf_model.backbones.revision import SAMPLES, check_fingerprints, fingerprint, same_release, short_name
from sf_model.config import CONFIGS


@pytest.mark.parametrize("config", CONFIGS.values(), ids=lambda config: config.name)
def test_every_configuration_fits_its_base(config) -> None:
    backbone = get_backbone(config.backbone)
    if config.name != "dummy":
        assert config.mllm == backbone.mllm
    if config.depth_adapter.injection == "latent":
        assert config.depth_adapter.out_channels == backbone.latent_channels


@pytest.mark.parametrize("backbone", BACKBONES.values(), ids=lambda backbone: backbone.name)
def test_templates_hold_one_prompt(backbone) -> None:
    templates = [backbone.prompt_template] + ([backbone.source_view.template] if backbone.source_view else [])
    for template in templates:
        assert [name for _, name, _, _ in string.Formatter().parse(template) if name is not None] == [""]


def test_a_transformer_is_known_by_its_nearest_class() -> None:
    def find(*names: str, preferred: str | None = None) -> str | None:
        found = backbone_of_transformer(list(names), BACKBONES, BACKBONES.get(preferred or ""))
        return None if found is None else found.name

    assert find("MiniTransformer", "OmniGen2Transformer2DModel", "Module") == "mini"
    assert find("OmniGen2Transformer2DModel", "Module") == "omnigen2"
    assert find("QwenImageTransformer2DModel") == "qwen_image"
    assert find("QwenImageTransformer2DModel", preferred="qwen_image_edit") == "qwen_image_edit"
    assert find("NextDiT", preferred="qwen_image") == "z_image"
    assert find("UNetModel", "Module", preferred="mini") is None


def test_an_unknown_base_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match="update the pack.*omnigen2.*z_image.*'flux2'"):
        get_backbone("flux2")


@pytest.mark.parametrize(
    ("dtype", "eight_bit"), [(torch.float16, False), (torch.bfloat16, False), (torch.float8_e4m3fn, True)]
)
def test_a_release_is_itself_in_any_storage_type_and_no_other(dtype: torch.dtype, eight_bit: bool) -> None:
    torch.manual_seed(0)
    weight = torch.randn(40, 50)
    stored = weight.to(dtype).float()
    assert same_release(fingerprint(weight), fingerprint(stored), eight_bit)
    assert not same_release(fingerprint(weight), fingerprint(torch.randn(40, 50)), eight_bit)
    finetuned = weight * (1 + 0.2 * torch.randn(40, 50).sign())
    assert not same_release(fingerprint(weight), fingerprint(finetuned), eight_bit)


def test_a_fingerprint_samples_evenly_from_first_to_nearly_last() -> None:
    weight = torch.arange(SAMPLES * 3).float().view(SAMPLES, 3)
    values = torch.frombuffer(bytearray(base64.b64decode(fingerprint(weight))), dtype=torch.float32)
    assert values.tolist() == [3.0 * index for index in range(SAMPLES)]
    assert len(short_name(fingerprint(weight))) == 8


def test_bad_fingerprints_are_refused() -> None:
    with pytest.raises(ValueError, match="needs 64 values, this weight has 4"):
        fingerprint(torch.zeros(2, 2))
    with pytest.raises(ValueError, match="64 values, this one 1"):
        same_release(fingerprint(torch.ones(8, 8)), base64.b64encode(b"1234").decode())
    with pytest.raises(ValueError, match="'mllm' and 'transformer'"):
        check_fingerprints({"vae": ""})
    with pytest.raises(ValueError, match="not a fingerprint"):
        check_fingerprints({"mllm": "no base 64!"})

"""`evaluation plan --model`: a tiny language model of random weights, from a folder, through the real transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sf_model.evaluation import __main__ as command_line
from sf_model.evaluation.planning.asking import ask, next_request
from sf_model.evaluation.planning.language_model import FolderModel, check_folder
from sf_model.evaluation.planning.prompts import plan_prompts

TEMPLATE = "{% for m in messages %}<u>{{ m['content'] }}</u>{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"


def save_tiny(folder: Path, positions: int = 8192, template: str | None = TEMPLATE) -> None:
    """Its tokens are bytes, so that it can write anything, and "<end>"."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<end>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", chat_template=template)
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=positions,
        bos_token_id=None,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def test_a_random_model_runs_through_and_scores_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, output = tmp_path / "tiny", tmp_path / "out"
    save_tiny(folder)
    options = ["--prompts", "1", "--max-tokens", "12", "--attempts", "2", "--batch", "15", "--device", "cpu"]
    monkeypatch.setattr("sys.argv", ["evaluation", "plan", "--model", str(folder), *options, "--output", str(output)])
    command_line.main()
    report = json.loads((output / "plan.json").read_text(encoding="utf-8"))
    assert report["run"]["model"] == "tiny" and report["run"]["answers"] == 30 and report["run"]["max_tokens"] == 12
    for row in ("written", "planned"):
        assert all(estimate["mean"] == 0.0 for estimate in report["table"][row].values()), row
    rows = [json.loads(line) for line in (output / "plan_answers.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(len(row["answers"]) == 2 and any(row["answers"]) for row in rows)


def test_a_model_that_writes_a_layout_is_read(tmp_path: Path) -> None:
    """The real `generate`, with an output layer that copies one text: the answer is the text, and ends there."""
    prompt = plan_prompts(7, 1)[0]
    text = prompt.layout.to_compact_json()
    save_tiny(tmp_path)
    model = FolderModel(tmp_path, seed=0, device="cpu")
    tokens = [*model.tokenizer(text, add_special_tokens=False)["input_ids"], model.tokenizer.eos_token_id]
    prompts: list[str] = []

    def forward(*_: object, input_ids: torch.Tensor, past_key_values: object = None, **__: object) -> object:
        if input_ids.shape[1] > 1:
            prompts.append(model.tokenizer.decode(input_ids[0]))
            forward.at = 0
        logits = torch.full((*input_ids.shape, len(model.tokenizer)), -1e9)
        logits[:, -1, tokens[forward.at]] = 0.0
        forward.at += 1
        return type(output)(logits=logits, past_key_values=past_key_values)

    output = model.model(input_ids=torch.tensor([[1]]))
    model.model.forward = forward
    answers = ask([prompt], model)
    assert answers == {prompt.number: [text]}
    assert prompts == [f"<u>{next_request(prompt, [])}</u><a>"]


def test_the_seed_and_the_attempt_decide_an_answer_and_the_callers_noise_stays(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    model = FolderModel(tmp_path, seed=1, max_tokens=8, batch=2, device="cpu")
    requests = ["a house", "a tree and a much longer request", "a dog"]
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = model(requests, 0)
    assert torch.equal(torch.rand(1), expected) and len(first) == 3
    assert model(requests, 0) == first != model(requests, 1)
    assert FolderModel(tmp_path, seed=2, max_tokens=8, batch=2, device="cpu")(requests, 0) != first


def test_without_a_chat_template_the_request_is_continued(tmp_path: Path) -> None:
    save_tiny(tmp_path, template=None)
    model = FolderModel(tmp_path, seed=1, max_tokens=3, device="cpu")
    assert len(model(["a house"], 0)) == 1


def test_folders_that_are_no_language_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give a folder of a language model .* has no config.json"):
        FolderModel(tmp_path, seed=0)
    save_tiny(tmp_path)
    check_folder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}', encoding="utf-8")
    with pytest.raises(
        ValueError, match="give a folder that transformers can load as a language model: .Unrec"
    ) as error:
        FolderModel(tmp_path, seed=0)
    # The library's own message names two hundred kinds of models.
    assert len(str(error.value)) < 500
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="has no weights"):
        FolderModel(tmp_path, seed=0)


def test_a_context_that_is_too_short_is_said(tmp_path: Path) -> None:
    save_tiny(tmp_path, positions=64)
    model = FolderModel(tmp_path, seed=0, max_tokens=40, device="cpu")
    assert len(model(["x" * 40], 0)) == 1
    with pytest.raises(
        ValueError, match="use a language model with a longer context: a request has 110 tokens, .* reads 64"
    ):
        model(["x" * 100], 0)

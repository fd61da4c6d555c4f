"""What several unit tests share."""

from pathlib import Path

import pytest

from sf_model.backbones.mini import PROMPT_TEMPLATE, TOKENIZER_DIR
from sf_model.training.bases.prompts import PromptTokens, load_tokenizer
from sf_model.training.bases.tokenizer import train_tokenizer
from tests.unit.mini_training import DUMMY


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer") / TOKENIZER_DIR
    train_tokenizer(directory, DUMMY.decoder.vocab_size, seed=0, size=300)
    return directory


@pytest.fixture(scope="session")
def tokens(tokenizer_dir: Path) -> PromptTokens:
    return PromptTokens(load_tokenizer(tokenizer_dir), PROMPT_TEMPLATE, None)

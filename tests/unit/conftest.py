"""What several unit tests share."""

from pathlib import Path

import pytest

from sf_model.backbones import template_of
from sf_model.backbones.mini import TOKENIZER_DIR
from sf_model.training.bases.prompts import PromptTokens, load_tokenizer
from sf_model.training.bases.tokenizer import train_tokenizer
from tests.unit.mini_training import DUMMY


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer") / TOKENIZER_DIR
    train_tokenizer(directory, DUMMY, seed=0)
    return directory


@pytest.fixture(scope="session")
def tokens(tokenizer_dir: Path) -> PromptTokens:
    return PromptTokens(load_tokenizer(tokenizer_dir), template_of(DUMMY.spatialfusion), None)

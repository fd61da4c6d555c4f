"""What several unit tests share."""

from pathlib import Path

import pytest
from sf_model.training.tokenizer import train_tokenizer

from sf_model.backbones.mini import TOKENIZER_DIR
from tests.unit.mini_training import DUMMY


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer") / TOKENIZER_DIR
    train_tokenizer(directory, DUMMY.decoder.vocab_size, seed=0, size=500)
    return directory

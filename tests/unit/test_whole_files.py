"""Files that are there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from sf_model.files.atomic import written_whole


def test_a_file_appears_when_it_is_whole_and_leftovers_go(tmp_path: Path) -> None:
    path = tmp_path / "new" / "model.safetensors"
    path.parent.mkdir()
    (path.parent / "model.safetensors.partial").write_bytes(b"torn")
    other = path.parent / "other.safetensors.partial"
    other.write_bytes(b"another file's")
    with written_whole(path) as partial:
        partial.write_bytes(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert set(path.parent.iterdir()) == {path, other}


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "model.safetensors"
    with written_whole(path) as partial:
        partial.write_bytes(b"old")
    with pytest.raises(OSError, match="full"), written_whole(path) as partial:
        partial.write_bytes(b"ne")
        raise OSError("the disk is full")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]

"""Files that users choose by name, as the host's loaders do."""

from __future__ import annotations

from pathlib import Path

import folder_paths


def input_file(name: str, kind: str) -> Path:
    """The file of a name, which may end in [input], [output] or [temp]; `kind` says in errors what it should hold.

    ValueError where there is none, or outside of that folder, which the oldest host does not check.
    """
    plain, annotated = folder_paths.annotated_filepath(name)
    try:
        folder = Path(annotated or folder_paths.get_input_directory()).resolve()
        path = (folder / plain.strip()).resolve()
        if path.is_relative_to(folder) and path.is_file():
            return path
    except (OSError, ValueError):  # a name that no file can have
        pass
    raise ValueError(
        f"there is no {kind} file {name!r} in ComfyUI's input folder; put it there, refresh the node definitions (R) "
        "and choose it again"
    )

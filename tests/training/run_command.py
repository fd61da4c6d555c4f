"""A training command in this process, as if it had one of its own."""

from pathlib import Path

from accelerate.state import AcceleratorState

from sf_model.training.__main__ import main


def run_command(command: str, config: Path, *more: str) -> None:
    # accelerate remembers the last command's settings.
    AcceleratorState._reset_state(reset_partial_state=True)
    main([command, "--config", str(config), *more])

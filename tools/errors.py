"""Failures that a user can repair, and how to recognise them in an installer's output."""

from __future__ import annotations

import errno
import re
import shutil
from pathlib import Path

GIB = 1024**3

_DISK_FULL = re.compile(
    r"no space left on device|not enough space|os error 28\b|errno 28\b|os error 112\b|quota exceeded", re.I
)
_CHANGED = re.compile(r"do not match the hashes", re.I)
# Without pip's "no matching distribution found": that can also mean that the index has nothing for this platform.
_NO_NETWORK = re.compile(
    r"failed to fetch|error sending request|connection (refused|reset|timed out|broken by)|dns error|name resolution|"
    r"network is unreachable|network was disabled|newconnectionerror|max retries exceeded|could not resolve|"
    r"temporary failure",
    re.I,
)


class DevError(Exception):
    """A failure explained in one paragraph, with the remedy. dev.py prints it without a traceback."""


def disk_full_message(root: Path) -> str:
    free_gib = shutil.disk_usage(root).free / GIB
    return (
        "Free at least 8 GiB and run the same command again; it continues where it was interrupted. The disk is full: "
        f"{free_gib:.1f} GiB are free for {root} and its caches, or less if you have a quota."
    )


def require_free_space(root: Path, needed_gib: float) -> None:
    """DevError if the disk of `root` has less than `needed_gib` GiB free."""
    free_gib = shutil.disk_usage(root).free / GIB
    if free_gib < needed_gib:
        raise DevError(
            f"Free some disk space, or clone the repository onto a larger disk: the environment needs about "
            f"{needed_gib:.0f} GiB, and {root} has {free_gib:.1f} GiB free."
        )


def is_disk_full(error: OSError) -> bool:
    """Whether the disk, or the user's quota on it, is full."""
    return error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # Windows has no EDQUOT


def is_no_network(output: str) -> bool:
    return bool(_NO_NETWORK.search(output))


def explain_failure(what: str, output: str, log: Path, root: Path) -> DevError:
    """The DevError for a failed installer. what: the step. output: what it printed, which is in `log`."""
    if _DISK_FULL.search(output):
        return DevError(disk_full_message(root))
    if _CHANGED.search(output):
        return DevError(
            f"{what} failed. Try again later or on another network: the SHA-256 of the downloaded file is not that of "
            f"the tested one, so it was not used. Details are in {log}."
        )
    if is_no_network(output):
        return DevError(
            f"{what} failed. Check the connection, or set PIP_INDEX_URL to a mirror that you can reach, and run the "
            "same command again: the package index cannot be reached. Only the first run needs the network. Details "
            f"are in {log}."
        )
    last = [line.strip() for line in output.splitlines() if line.strip()][-3:]
    return DevError(f"{what} failed: {' / '.join(last) or 'no output'}. The full output is in {log}.")

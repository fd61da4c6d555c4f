"""Failures that a user can do something about, and how they are told apart from an installer's output."""

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
# Not pip's "no matching distribution found": it also says so where an index has nothing for this platform.
_NO_NETWORK = re.compile(
    r"failed to fetch|error sending request|connection (refused|reset|timed out|broken by)|dns error|name resolution|"
    r"network is unreachable|network was disabled|newconnectionerror|max retries exceeded|could not resolve|"
    r"temporary failure",
    re.I,
)


class DevError(Exception):
    """A failure told in one paragraph that names the remedy; dev.py prints it without a traceback."""


def disk_full_message(root: Path) -> str:
    free_gib = shutil.disk_usage(root).free / GIB
    return (
        f"The disk is full: {free_gib:.1f} GiB are free for {root} and its caches, unless a quota allows you less. "
        "Free at least 8 GiB and run the same command again; it starts over where it was interrupted."
    )


def require_free_space(root: Path, needed_gib: float) -> None:
    """Raise DevError where the disk that holds `root` has fewer than `needed_gib` GiB free."""
    free_gib = shutil.disk_usage(root).free / GIB
    if free_gib < needed_gib:
        raise DevError(
            f"Not enough disk space: the environment needs about {needed_gib:.0f} GiB, and {root} has "
            f"{free_gib:.1f} GiB free. Free some space, or clone the repository onto a larger disk."
        )


def is_disk_full(error: OSError) -> bool:
    """Whether the disk, or this user's quota on it, is used up."""
    return error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # Windows has no EDQUOT


def is_no_network(output: str) -> bool:
    return bool(_NO_NETWORK.search(output))


def explain_failure(what: str, output: str, log: Path, root: Path) -> DevError:
    """The DevError for an installer that failed at `what` and printed `output` (kept in `log`)."""
    if _DISK_FULL.search(output):
        return DevError(disk_full_message(root))
    if _CHANGED.search(output):
        return DevError(
            f"{what} failed: the downloaded file is not the one this repository was tested with (its SHA-256 "
            f"differs), so it was not used. Try again later or on another network; details are in {log}."
        )
    if is_no_network(output):
        return DevError(
            f"{what} failed: the package index cannot be reached. The first run needs the network (later runs do "
            "not): check the connection, or set PIP_INDEX_URL to a mirror that you can reach, and run the same "
            f"command again. Details are in {log}."
        )
    last = [line.strip() for line in output.splitlines() if line.strip()][-3:]
    return DevError(f"{what} failed: {' / '.join(last) or 'no output'}. The full output is in {log}.")

"""`python -m tests.host.compare_editor`: the scene editor's depth against the server's for many random layouts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.host.editor_depth import browser_depth, compare, page_without_host, random_layout, server_depth

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Prints one line for each layout that has a difference, and the largest of all. 1 if one is too large."""
    parser = argparse.ArgumentParser(prog="python -m tests.host.compare_editor", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="number of layouts")
    parser.add_argument("--width", type=int, default=512, help="pixels")
    parser.add_argument("--height", type=int, default=384, help="pixels")
    given = parser.parse_args()
    largest, others, failed = 0.0, 0, 0
    with page_without_host(ROOT) as (page, web):
        for seed in range(given.count):
            layout = random_layout(seed)
            ours, _ = browser_depth(page, layout, given.width, given.height, web)
            theirs, _ = server_depth(layout, given.width, given.height)
            found = compare(ours, theirs)
            largest, others = max(largest, found.largest_difference), others + found.other_surface
            failed += not found.edges_within_a_pixel
            if found.other_surface:
                sys.stdout.write(f"layout {seed}: {found}\n")
    pixels = given.count * given.width * given.height
    sys.stdout.write(
        f"{given.count} layouts at {given.width}x{given.height}: largest difference {largest:.2e}; {others} of "
        f"{pixels} pixels show another surface; {failed} layouts with an edge farther away than 1 pixel\n"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

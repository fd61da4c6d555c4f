"""`python -m tests.host.compare_editor`: the scene editor's depth against the server's for many random layouts."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.host.browser import Browser
from tests.host.editor_depth import browser_depth, compare, random_layout, server_depth
from tests.host.server import ComfyServer
from tools import hosts


def main() -> int:
    """Prints one line for each layout that has a difference, and the largest of all. 1 if one is too large."""
    parser = argparse.ArgumentParser(prog="python -m tests.host.compare_editor", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="number of layouts")
    parser.add_argument("--width", type=int, default=512, help="pixels")
    parser.add_argument("--height", type=int, default=384, help="pixels")
    given = parser.parse_args()
    largest, others, failed = 0.0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        server = ComfyServer(Path(__file__).resolve().parents[2], hosts.NEWEST.version, Path(folder))
        server.start()
        try:
            with Browser() as browser, browser.open(server) as page:
                for seed in range(given.count):
                    layout = random_layout(seed)
                    ours, _ = browser_depth(page, layout, given.width, given.height)
                    theirs, _ = server_depth(layout, given.width, given.height)
                    found = compare(ours, theirs)
                    largest, others = max(largest, found.largest_difference), others + found.other_surface
                    failed += not found.edges_within_a_pixel
                    if found.other_surface:
                        sys.stdout.write(f"layout {seed}: {found}\n")
        finally:
            server.stop()
    pixels = given.count * given.width * given.height
    sys.stdout.write(
        f"{given.count} layouts at {given.width}x{given.height}: largest difference {largest:.2e}; {others} of "
        f"{pixels} pixels show another surface; {failed} layouts with an edge farther away than 1 pixel\n"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

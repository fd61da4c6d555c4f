"""Reads damaged files of depth and meshes: `python -m tests.by_hand.damaged_files --count 100`.

It prints how they ended, format by format, the slowest one, and the most memory that the process had.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from collections import Counter

from tests.damage import damaged, end_of, samples

MOST_SECONDS, MOST_MIB = 10, 2048


def main() -> int:
    """1 if a file ended in anything but a picture, a mesh or a clear error, or took too much, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="damaged files of each kind")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--only", default="", help="only the kinds whose name has this in it")
    options = parser.parse_args()
    is_wrong = False
    for name, data in samples().items():
        if options.only not in name:
            continue
        ends: Counter[str] = Counter()
        slowest = (0.0, 0)
        for seed in range(options.first, options.first + options.count):
            begin = time.perf_counter()
            end = end_of(damaged(data, random.Random(f"{name} {seed}")), name)
            slowest = max(slowest, (time.perf_counter() - begin, seed))
            ends[end if end in ("read", "refused") else f"seed {seed}: {end}"] += 1
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"{name}: {ends['read']} read, {ends['refused']} refused, ", end="")
        print(f"slowest {slowest[0]:.2f} s (seed {slowest[1]}), {peak} MiB at most so far", flush=True)
        faults = [end for end in ends if end not in ("read", "refused")]
        print(*faults[:8], sep="\n", end="\n" if faults else "", flush=True)
        is_wrong = is_wrong or bool(faults) or slowest[0] > MOST_SECONDS or peak > MOST_MIB
    return 1 if is_wrong else 0


if __name__ == "__main__":
    sys.exit(main())

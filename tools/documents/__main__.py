"""`python -m tools.documents [--check]`: write all generated documents, or list those out of date."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .writing import generated, outdated

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Returns 1 if --check finds a file out of date, else 0. SystemExit for a source that cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m tools.documents", description="Write all generated documents.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    check = parser.parse_args().check
    try:
        texts = generated(ROOT)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    changed = outdated(texts)
    for path in changed:
        sys.stdout.write(f"{'out of date: ' if check else ''}{path.relative_to(ROOT)}\n")
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(texts[path], encoding="utf-8")
    return 1 if check and changed else 0


if __name__ == "__main__":
    sys.exit(main())

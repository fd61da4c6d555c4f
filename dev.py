"""The one command of this repository: python3 dev.py demo ["a prompt"] | test [pytest arguments] | bench.

Standard library only. This file alone must also parse on old Pythons, Python 2 included, so that they get to print
why they are not supported; everything else lives in tools/.
"""
# ruff: noqa: UP031 - f-strings do not parse on the old Pythons that this file has to answer

import sys

OLDEST = (3, 10)
NEWEST = (3, 13)


def unsupported_python(version):
    """The message for a Python (major, minor) outside the supported range, else an empty string."""
    if OLDEST <= version <= NEWEST:
        return ""
    return (
        "dev.py: Python %d.%d is not supported: it needs Python %d.%d to %d.%d. Install one of these and start it by "
        "name, for example: python%d.%d dev.py demo\n" % (version + OLDEST + NEWEST + NEWEST)
    )


def main():
    message = unsupported_python(tuple(sys.version_info[:2]))
    if message:
        sys.stderr.write(message)
        return 2
    from tools.commands import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())

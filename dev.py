"""The command of this repository: python3 dev.py demo ["a prompt"] | test [pytest arguments] | bench.

Standard library only. This file must also parse on old Pythons, even Python 2, so that they can print why they are not
supported. All other code is in tools/.
"""
# ruff: noqa: UP031 - f-strings do not parse on the oldest Pythons that run this file

import sys

OLDEST = (3, 10)
NEWEST = (3, 13)


def unsupported_python(version):
    """The message for an unsupported Python (major, minor), else an empty string."""
    if OLDEST <= version <= NEWEST:
        return ""
    return (
        "dev.py: Install a Python from %d.%d to %d.%d and start it by name (for example: python%d.%d dev.py demo). "
        "Python %d.%d is not supported.\n" % (OLDEST + NEWEST + NEWEST + version)
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

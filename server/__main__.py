"""`python -m server` and the command `llamada`."""

from __future__ import annotations

import sys


def main() -> None:
    from server.cli.main import main as command

    sys.exit(command())


if __name__ == "__main__":
    main()

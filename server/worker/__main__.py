"""``python -m server.worker --fd N`` serves a model over an inherited socket; ``--probe`` prints the devices."""

from __future__ import annotations

import argparse

from server.worker import sandbox


def main() -> None:
    parser = argparse.ArgumentParser(prog="server.worker")
    parser.add_argument("--fd", type=int)
    parser.add_argument("--probe", action="store_true")
    arguments = parser.parse_args()
    sandbox.enter()
    if arguments.probe:
        from server.worker.probe import report

        print(report())  # noqa: T201 (this is the probe's answer)
    elif arguments.fd is not None:
        from server.worker.main import serve

        serve(arguments.fd)
    else:
        parser.error("one of --fd and --probe is needed")


if __name__ == "__main__":
    main()

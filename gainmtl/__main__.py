"""`python -m gainmtl predict model.onnx folder -o verdicts.csv`; see `gainmtl.runner`."""

from __future__ import annotations

import argparse
import sys

from gainmtl import runner


def main(argv: list[str] | None = None) -> int:
    """Run a command; the result is the exit status."""
    parser = argparse.ArgumentParser(prog="python -m gainmtl")
    commands = parser.add_subparsers(required=True)
    predict = commands.add_parser("predict", help="verdicts on image files by an exported model")
    runner.add_arguments(predict)
    return runner.run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())

"""`python -m kiyas.judge`: the judge's command line without the rest of Kıyas."""

import argparse
import sys

from . import cli
from .terminal import only_printable


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m kiyas.judge")
    cli.add_arguments(parser)
    with only_printable():
        return cli.run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())

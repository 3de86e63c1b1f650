"""`python -m snnx` is the `snnx` command."""

import sys

from snnx.cli import main

if __name__ == "__main__":
    sys.exit(main())

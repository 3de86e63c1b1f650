"""The command `snnx`, also as `python -m snnx`."""

import sys


def main() -> int:
    """Run the command line; Ctrl-C ends it quietly also while its modules are being loaded."""
    try:
        from snnx.cli import main as run

        return run()
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())

"""``python -m scpln``: the command line."""

import sys

from scpln.cli import main

if __name__ == "__main__":
    sys.exit(main())

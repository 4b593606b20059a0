"""``python -m mlopsd`` is ``mlopsd``."""

import sys

from mlopsd.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m unitok` is the same as `unitok`."""

import sys

from unitok.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

"""`hordet export CONFIG CHECKPOINT FILE`, from a checkout."""

import sys

from hordet.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))

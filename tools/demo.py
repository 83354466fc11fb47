"""`hordet demo CONFIG CHECKPOINT`, from a checkout."""

import sys

from hordet.cli import main

if __name__ == "__main__":
    sys.exit(main(["demo", *sys.argv[1:]]))

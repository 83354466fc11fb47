"""`hordet train CONFIG`, from a checkout."""

import sys

from hordet.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))

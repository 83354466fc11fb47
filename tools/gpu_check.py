"""`hordet doctor --gpu`, from a checkout."""

import sys

from hordet.cli import main

if __name__ == "__main__":
    sys.exit(main(["doctor", "--gpu", *sys.argv[1:]]))

"""`hordet convert SRC DST`, from a checkout."""

import sys

from hordet.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert", *sys.argv[1:]]))

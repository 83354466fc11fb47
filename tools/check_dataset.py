"""`hordet check CONFIG`, from a checkout."""

import sys

from hordet.cli import main

if __name__ == "__main__":
    sys.exit(main(["check", *sys.argv[1:]]))

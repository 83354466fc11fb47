"""`hordet evaluate ANNOTATIONS RESULTS`, from a checkout."""

import sys

from hordet.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))

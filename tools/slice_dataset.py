"""`hordet slice ANNOTATIONS IMAGES OUT`, from a checkout."""

import sys

from hordet.cli import main

if __name__ == "__main__":
    sys.exit(main(["slice", *sys.argv[1:]]))

"""`hordet infer CONFIG CHECKPOINT INPUT`, from a checkout."""

import sys

from hordet.cli import main

if __name__ == "__main__":
    sys.exit(main(["infer", *sys.argv[1:]]))

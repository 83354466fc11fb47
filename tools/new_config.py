"""`hordet new-config --coco DIR`, from a checkout."""

import sys

from hordet.cli import main

if __name__ == "__main__":
    sys.exit(main(["new-config", *sys.argv[1:]]))

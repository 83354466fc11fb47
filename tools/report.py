"""`hordet report WORK_DIR`, from a checkout."""

import sys

from hordet.cli import main

if __name__ == "__main__":
    sys.exit(main(["report", *sys.argv[1:]]))

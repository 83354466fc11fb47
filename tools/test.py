"""`hordet test CONFIG CHECKPOINT`, from a checkout."""

import sys

from hordet.cli import main

if __name__ == "__main__":
    sys.exit(main(["test", *sys.argv[1:]]))

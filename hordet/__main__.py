"""`python -m hordet` is the command `hordet`; without more words it is `hordet doctor`."""

import sys

from hordet.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["doctor"]))

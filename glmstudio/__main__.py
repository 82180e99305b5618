"""`python -m glmstudio`: the studio, or one of its commands."""

import sys

from glmstudio.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

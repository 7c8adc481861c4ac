"""The process of one rank: ``python rank.py RANK FOLDER``."""

import sys
from pathlib import Path

from paretta.testing.two_ranks import be_one_rank

if __name__ == "__main__":
    be_one_rank(int(sys.argv[1]), Path(sys.argv[2]))

"""The benchmark suite: ``python -m bench`` from the repository's root; README.md says how to read it."""

import sys
from pathlib import Path

# Last, so that the sources of fastmlp do not hide the one that is installed.
if sys.path[0] == str(Path(__file__).parents[1]):
    sys.path.append(sys.path.pop(0))

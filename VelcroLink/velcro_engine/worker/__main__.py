"""`python -m velcro_engine.worker`: what 3D Slicer's side starts."""

import sys

from .process import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m mdsys``."""

import sys

from mdsys.cli import main

sys.exit(main())

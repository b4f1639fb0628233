"""Draw them all, or those that are named: terminal, dashboard."""

from __future__ import annotations

import sys

from tools.pictures import dashboard, terminal

DRAWN = {"terminal": terminal.draw_all, "dashboard": dashboard.draw_all}

for name in sys.argv[1:] or DRAWN:
    DRAWN[name]()

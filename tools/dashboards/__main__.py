"""Write the dashboards."""

from __future__ import annotations

from tools.dashboards.boards import FOLDER, boards
from tools.dashboards.panels import to_json

FOLDER.mkdir(parents=True, exist_ok=True)
for name, board in boards().items():
    path = FOLDER / name
    path.write_text(to_json(board))
    print(path)

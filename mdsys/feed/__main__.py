"""``python -m mdsys.feed --plan-fd N --report-fd M``: what the supervisor starts.

The plan ends with its end of file, and is waited for with everything imported: so a process can be
kept ready, its plan to come through a pipe. One that gets none ends.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys

from mdsys.feed.plan import FeedPlan
from mdsys.feed.report import Reporter


def run() -> int:
    """Read the plan and be a feed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the supervisor, which stops us
    parser = argparse.ArgumentParser(prog="mdsys.feed")
    parser.add_argument("--plan-fd", type=int, required=True)
    parser.add_argument("--report-fd", type=int, required=True)
    arguments = parser.parse_args()
    channel = socket.socket(fileno=arguments.report_fd)

    from mdsys.feed.process import main
    from mdsys.feed.tls import default_tls

    default_tls()
    with os.fdopen(arguments.plan_fd, "rb") as file:
        line = file.read()
    if not line:  # the supervisor has no use for us, or is gone
        return 0
    plan = FeedPlan.from_line(line)
    return main(plan, Reporter(channel))


if __name__ == "__main__":
    sys.exit(run())

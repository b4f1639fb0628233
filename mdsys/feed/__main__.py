"""``python -m mdsys.feed --plan-fd N --report-fd M``: what the supervisor starts."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys

from mdsys.feed.plan import FeedPlan


def run() -> int:
    """Read the plan and be a feed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the supervisor, which stops us
    parser = argparse.ArgumentParser(prog="mdsys.feed")
    parser.add_argument("--plan-fd", type=int, required=True)
    parser.add_argument("--report-fd", type=int, required=True)
    arguments = parser.parse_args()
    with os.fdopen(arguments.plan_fd, "rb") as file:
        plan = FeedPlan.from_line(file.read())
    channel = socket.socket(fileno=arguments.report_fd)

    from mdsys.feed.process import main
    from mdsys.feed.report import Reporter

    return main(plan, Reporter(channel))


if __name__ == "__main__":
    sys.exit(run())

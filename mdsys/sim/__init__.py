"""A simulated venue: a real WebSocket server whose market is recorded or invented.

Example::

    async with Simulator(RandomMarket(100, rate=50_000, seed=1)) as sim:
        ...  # clients connect to sim.url + "/stream"
        await sim.finished()  # of a replay, or of a market with events_max
        sim.stats.records  # what a consumer that lost nothing has received
"""

from mdsys.sim.market import RandomMarket
from mdsys.sim.replay import Replay, ReplayError
from mdsys.sim.server import Simulator
from mdsys.sim.stats import Stats

__all__ = ["RandomMarket", "Replay", "ReplayError", "Simulator", "Stats"]

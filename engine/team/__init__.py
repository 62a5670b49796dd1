"""Several processes that serve one ledger: what they tell each other, and what only one may do at a time.

    team = Alone()                                  one process
    team = await Member.connect(socket)             one of several; a Hub in another process is between them

    async with team.turn("changes"): ...            nobody else has this turn, in any process
    await team.tell("merchant", ("m-1", "watched")) every other process did what it does `on` that
    team.spread("counted", item)                    every other process hears of it soon

A process that does not do what it is told, or is gone, is ended by the hub and started anew: then it reads how things
are from the ledger. So what `tell` returns from is true everywhere.
"""

from engine.team.alone import Alone, Team
from engine.team.hub import Hub, Peer
from engine.team.member import Member

__all__ = ["Alone", "Hub", "Member", "Peer", "Team"]

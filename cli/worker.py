"""One process of several: `arbiter serve --workers N` starts it as `python -m cli.worker INDEX LISTENER HUB`."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Sequence

import click

from cli.group import in_words
from cli.serve import end
from cli.settings import settings
from engine.errors import ArbiterError


def main(arguments: Sequence[str]) -> int:
    """The exit status. LISTENER and HUB are the numbers of open files (`api.workers`)."""
    import api

    listener, hub = (socket.socket(fileno=int(number)) for number in arguments[1:])
    signal.signal(signal.SIGTERM, end)
    try:
        api.work(settings(), listener, hub, limits=api.Limits.read(os.environ))
    except (ArbiterError, OSError) as error:
        for line in in_words(error):
            click.echo(line, err=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`serve`: the API."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace

import click

from cli.settings import settings
from engine.assembly import Settings


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on.")
@click.option("--workers", type=click.IntRange(1), help="Processes, instead of ARBITER_WORKERS.")
def serve(host: str, port: int, workers: int | None) -> None:
    """Serve the API until a signal ends it; what was accepted is then still answered.

    Needs the key file (arbiter keys init) and the database that ARBITER_DATABASE_URL names; makes the tables there.
    It does not start with a wrong setting, a wrong key file or packs that have problems, and says what is wrong.

    More than one process needs PostgreSQL and a Valkey or Redis (ARBITER_REDIS_URL), which they share.

    \b
    Examples:
      arbiter keys init && arbiter serve
      arbiter serve --host 0.0.0.0 --port 8080
      ARBITER_DATABASE_URL=postgresql://arbiter@db/arbiter arbiter serve
      ARBITER_DATABASE_URL=postgresql://arbiter@db/arbiter ARBITER_REDIS_URL=redis://valkey arbiter serve --workers 4
    """
    given = settings()
    given = replace(given, workers=workers or given.workers)
    given.check()
    run(given, host, port)


def run(given: Settings, host: str, port: int) -> None:
    """Serve with these settings until a signal comes; then finish what is under way and close the ledger."""
    import api

    limits = api.Limits.read(os.environ)
    # The server raises the signal that ended it once more when it is done; by default that would kill the process
    # before the ledger is closed.
    signal.signal(signal.SIGTERM, end)
    # Said only when nothing can refuse the settings any more.
    said = f"Arbiter starts on http://{host}:{port} (documentation: http://{host}:{port}/docs)"
    if given.workers == 1:
        api.serve(given, host=host, port=port, limits=limits, opened=lambda: click.echo(said, err=True))
        return
    command = (sys.executable, "-m", "cli.worker")
    try:
        api.serve_several(given, command, host=host, port=port, opened=lambda: click.echo(said, err=True))
    except api.Failed as failed:
        raise SystemExit(failed.status) from None


def end(*_: object) -> None:
    """What SIGTERM does outside of the server's own handling."""
    raise SystemExit(0)

"""The HTTP API: translate, authorize, call the engine, translate back.

create_app(Settings.read(os.environ))   an ASGI application; `serve` runs it

app         the application, its server, the lifespan
gate        around every request: id, headers, one log line, no error that escapes
desk        what a worker has: engine, keys, limits, counters
decisions   the hot path: one event, or a batch of lines
cases       reading decisions, resolutions, events without a verdict
admin       lists, merchants, rulebook, health, metrics
wire        shapes and OpenAPI; manual: the page at /docs; problems: errors as RFC 9457
"""

from api.app import create_app, serve
from api.desk import Limits

__all__ = ["Limits", "create_app", "serve"]

"""The HTTP API: translate, authorize, call the engine, translate back.

serve(Settings.read(os.environ), port=8000)   until a signal ends it; serve_several where there are several workers

server      the process: uvicorn, and the garbage collector out of the way
listening   the socket
workers     the parent of several
app         the ASGI application and its lifespan
gate        around every request: id, headers, one log line, no error that escapes
exchange    one request and its answer
desk        what a worker has: engine, keys, limits, counters
decisions   the hot path: one event, or a batch of lines
cases       reading decisions, resolutions, events without a verdict
admin       lists, merchants, rulebook, health, metrics
standings   who stands in which tier, and why
wire        shapes and OpenAPI; manual: the page at /docs; problems: errors as RFC 9457
"""

from api.app import create_app
from api.desk import Limits
from api.listening import listening
from api.server import serve, serve_several, work
from api.workers import Failed

__all__ = ["Failed", "Limits", "create_app", "listening", "serve", "serve_several", "work"]

"""A Spark session: of this process, of a cluster, or of a Spark Connect server, by its URL."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from py4j.protocol import Py4JError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

from engine.errors import RequestRefused

LOCAL = "local[*]"
"""A session of this process, on all its cores."""

_URL = re.compile(r"(?P<local>local(\[(?P<cores>\*|\d+)\])?)|(?P<connect>sc)://.+|spark://.+|yarn|k8s://.+")
_PATIENCE = 5.0
"""Seconds until a server that does not answer is taken for absent. Spark itself would go on for minutes."""

_ALWAYS: Mapping[str, str] = {
    "spark.app.name": "arbiter",
    "spark.driver.maxResultSize": "0",
    "spark.ui.showConsoleProgress": "false",
}
_LOCAL: Mapping[str, str] = {
    "spark.driver.memory": "5g",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
}
"""Of a session of this process, which nobody else needs to reach."""


@contextmanager
def session(url: str = LOCAL) -> Iterator[Any]:
    """A session that ends with it. Where one already runs in this process, a new one beside it, with views and settings
    of its own. Raises RequestRefused, with what to do, where Spark does not start or nobody answers."""
    kind = _URL.fullmatch(url)
    if kind is None:
        raise RequestRefused(
            f"{url} is no URL of Spark, such as local[2], spark://host:7077, sc://host:15002, yarn or k8s://…"
        )
    _answering(url)
    if kind["connect"]:
        made = _connected(url)
    elif running := SparkSession.getActiveSession():
        yield running.newSession()
        return
    else:
        made = _started(url, {**_ALWAYS, **(_local(kind["cores"]) if kind["local"] else {})})
    try:
        yield made
    finally:
        made.stop()


def _local(cores: str | None) -> dict[str, str]:
    """Two partitions a core: with Spark's own 200, which are for clusters, a window of little data takes ten times as
    long."""
    number = (os.cpu_count() or 1) if cores == "*" else int(cores or 1)
    return {**_LOCAL, "spark.sql.shuffle.partitions": str(2 * number)}


def _answering(url: str) -> None:
    """Raises RequestRefused where no server of the URL takes a connection."""
    scheme, _, servers = _shown(url).partition("://")
    if scheme not in ("spark", "sc"):
        return
    failed = ""
    for server in servers.split(","):
        host, _, port = server.rpartition(":") if ":" in server else (server, "", "15002" if scheme == "sc" else "7077")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), _PATIENCE):
                return
        except (OSError, ValueError, OverflowError) as error:
            failed = str(error)
    raise RequestRefused(f"no Spark answers at {_shown(url)}: {failed}")


def _connected(url: str) -> Any:
    try:
        return SparkSession.builder.remote(url).create()
    except ImportError as error:
        what = f"{_shown(url)} is a server of Spark Connect: pip install 'pyspark[connect]' ({error})"
        raise RequestRefused(what) from None
    except PySparkException as error:
        raise RequestRefused(f"no Spark at {_shown(url)}: {_first_line(error)}") from None


def _started(url: str, settings: Mapping[str, str]) -> Any:
    """A session with a driver in a Java of this process. What that has to say about its start is shown only where it
    fails."""
    java = _java()
    conf = SparkConf().setMaster(url).setAll(list(settings.items()))
    with TemporaryDirectory(prefix="arbiter-spark-") as folder:
        log = Path(folder, "log")
        try:
            with log.open("wb") as said:
                gateway = launch_gateway(conf, {"stderr": said})
            return SparkSession(SparkContext(conf=conf, gateway=gateway))
        except (PySparkException, Py4JError) as error:
            lines = [*log.read_text("utf-8", "replace").splitlines(), _first_line(error)]
            why = next((line for line in lines if "rror" in line or "xception" in line), lines[-1])
            raise RequestRefused(f"Spark did not start with {java}, which must be Java 17 or 21: {why}") from None


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    found = shutil.which(str(Path(home, "bin", "java"))) if home else shutil.which("java")
    if found is None and home:
        raise RequestRefused(f"Spark needs Java 17 or 21, and JAVA_HOME is {home}, where none is")
    if found is None:
        raise RequestRefused("Spark needs Java 17 or 21, and none is on the path")
    return found


def _shown(url: str) -> str:
    """The URL without what may be secret: a token of Spark Connect stands behind the server."""
    return re.sub(r"(?<=[^/:])[/;].*", "", url)


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)

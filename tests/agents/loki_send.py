"""Sends log lines with two Loki clients from PyPI and prints the streams that went over the wire, as
JSON: a list of {"stream": labels, "values": [[ns, line, metadata?], ...]}.

Usage: loki_send.py BASE_URL
"""

import gzip
import json
import logging
import sys
import time

import requests

push = sys.argv[1].rstrip("/") + "/loki/api/v1/push"
sent = []
send = requests.Session.send


def remember(session, request, **options):
    """Keeps what a client sends, and fails when it is not taken."""
    body = request.body if isinstance(request.body, bytes) else request.body.encode()
    if request.headers.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    sent.extend(json.loads(body)["streams"])
    response = send(session, request, **options)
    assert response.status_code == 204, (response.status_code, response.text)
    return response


requests.Session.send = remember


def with_logging_loki():
    import logging_loki

    handler = logging_loki.LokiHandler(url=push, tags={"app": "logging-loki", "job": "agents"})
    logger = logging.getLogger("logging_loki_client")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    logger.info("a plain line")
    logger.warning('naïve ☕ "quoted" \\ back', extra={"tags": {"tier": "gold"}})
    logger.error("two\nlines")
    logger.removeHandler(handler)
    handler.close()


def with_loki_logger_handler():
    from loki_logger_handler.loki_logger_handler import LokiLoggerHandler

    handler = LokiLoggerHandler(
        url=push,
        labels={"app": "loki-logger-handler", "job": "agents"},
        timeout=1,
        compressed=True,
        enable_structured_loki_metadata=True,
        loki_metadata={"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"},
    )
    logger = logging.getLogger("loki_logger_handler_client")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    for number in range(50):
        logger.info("line %d", number)
        time.sleep(0.001)
    handler._send()


with_logging_loki()
with_loki_logger_handler()
print(json.dumps(sent))

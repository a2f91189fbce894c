"""Sends metrics, logs and traces with the OpenTelemetry SDK and prints what it sent, as JSON.

Usage: otel_send.py grpc|http BASE_URL [gzip]
"""

import json
import sys
import time

from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

protocol, base = sys.argv[1], sys.argv[2].rstrip("/")
gzip = len(sys.argv) > 3 and sys.argv[3] == "gzip"
service = f"agent-{protocol}" + ("-gzip" if gzip else "")

if protocol == "grpc":
    from grpc import Compression
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    packed = Compression.Gzip if gzip else Compression.NoCompression
    to = lambda signal: {"endpoint": base, "insecure": True, "compression": packed}
else:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    packed = Compression.Gzip if gzip else Compression.NoCompression
    to = lambda signal: {"endpoint": f"{base}/v1/{signal}", "compression": packed}

resource = Resource.create({"service.name": service, "service.version": "1.2.3", "deployment.environment.name": "test"})


def send_traces():
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(**to("traces"))))
    tracer = provider.get_tracer("agents", "0.1")
    sent = []
    with tracer.start_as_current_span("POST /orders", kind=SpanKind.SERVER) as parent:
        parent.set_attribute("order.id", 4711)
        parent.set_attribute("order.price", 12.5)
        parent.set_attribute("order.gift", True)
        parent.set_attribute("order.items", ["book", "pen"])
        parent.set_attribute("käufer", "Zoë ☕")
        parent.add_event("reserved", {"shelf": "A7"})
        with tracer.start_as_current_span("charge", kind=SpanKind.CLIENT, links=[Link(parent.get_span_context())]) as child:
            child.set_status(Status(StatusCode.ERROR, "card refused"))
    for span in (parent, child):
        context = span.get_span_context()
        sent.append({
            "trace": f"{context.trace_id:032x}",
            "span": f"{context.span_id:016x}",
            "parent": f"{span.parent.span_id:016x}" if span.parent else "",
            "name": span.name,
            "start_ns": str(span.start_time),
            "end_ns": str(span.end_time),
        })
    provider.shutdown()
    return sent, trace.set_span_in_context(parent)


def send_logs(context):
    provider = LoggerProvider(resource=resource)
    provider.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(**to("logs"))))
    logger = provider.get_logger("agents")
    now = time.time_ns()
    sent = []
    bodies = ["order placed", "naïve ☕ \"quoted\" \\ back", "two\nlines"]
    for number, body in enumerate(bodies):
        at = now + number
        logger.emit(
            timestamp=at,
            observed_timestamp=at,
            context=context,
            severity_number=SeverityNumber.WARN,
            severity_text="WARN",
            body=body,
            attributes={"order.id": 4711, "attempt": number},
        )
        sent.append([str(at), body])
    provider.shutdown()
    return sent


def reader(**options):
    return PeriodicExportingMetricReader(OTLPMetricExporter(**to("metrics"), **options), export_interval_millis=3_600_000)


def send_metrics():
    views = [View(instrument_name="order.size", aggregation=ExponentialBucketHistogramAggregation())]
    provider = MeterProvider(resource=resource, metric_readers=[reader()], views=views)
    meter = provider.get_meter("agents")
    placed = meter.create_counter("orders.placed", unit="1", description="Orders placed.")
    placed.add(3, {"channel": "web"})
    placed.add(4, {"channel": "web"})
    placed.add(1, {"channel": "phone"})
    meter.create_up_down_counter("orders.open").add(-2)
    meter.create_gauge("queue.fill", unit="%").set(17.25)
    duration = meter.create_histogram("order.duration", unit="s", explicit_bucket_boundaries_advisory=[0.1, 1.5])
    size = meter.create_histogram("order.size", unit="By")
    for value in (0.05, 0.5, 3.0, 0.75):
        duration.record(value)
        size.record(value * 1000)
    provider.shutdown()

    delta = {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}
    provider = MeterProvider(resource=resource, metric_readers=[reader(preferred_temporality=delta)])
    shipped = provider.get_meter("agents").create_counter("orders.shipped")
    shipped.add(5)
    provider.force_flush()
    time.sleep(0.01)
    shipped.add(6)
    provider.shutdown()

    job = f'job="{service}"'
    return {
        f'orders_placed_total{{{job},channel="web"}}': 7,
        f'orders_placed_total{{{job},channel="phone"}}': 1,
        f"orders_open{{{job}}}": -2,
        f"queue_fill_percent{{{job}}}": 17.25,
        f'order_duration_seconds_bucket{{{job},le="0.1"}}': 1,
        f'order_duration_seconds_bucket{{{job},le="1.5"}}': 3,
        f'order_duration_seconds_bucket{{{job},le="+Inf"}}': 4,
        f"order_duration_seconds_count{{{job}}}": 4,
        f"order_duration_seconds_sum{{{job}}}": 4.3,
        f"histogram_count(order_size_bytes{{{job}}})": 4,
        f"histogram_sum(order_size_bytes{{{job}}})": 4300,
        f"orders_shipped_total{{{job}}}": 11,
        f'target_info{{{job},service_version="1.2.3",deployment_environment_name="test"}}': 1,
    }


spans, context = send_traces()
print(json.dumps({"service": service, "spans": spans, "logs": send_logs(context), "metrics": send_metrics()}))

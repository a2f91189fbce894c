// What to paste where, with the addresses of this server. Nothing here touches the page.
"use strict";

const isLoopback = (host) => /^(localhost|127\.[\d.]+|\[?::1\]?)$/.test(host);

// Host and port of an address such as 127.0.0.1:9090 or [::]:9090.
function parts(address) {
  const at = address.lastIndexOf(":");
  return { host: address.slice(0, at), port: address.slice(at + 1) };
}

// Where senders reach the listeners, by the name that the browser has for this machine. A listener that is off, or on
// loopback while the browser is elsewhere, is left for the main one, which takes the same; so are all where the browser came
// by another port than the main one's, for then nobody knows which others a proxy or a container passes on.
function addresses(listeners, { origin, hostname, protocol, port }) {
  const listensOn = parts(listeners.main);
  const direct = protocol === "http:" && (port || "80") === listensOn.port;
  const of = (name) => {
    const listener = listeners[name] && parts(listeners[name]);
    if (!direct || !listener || (isLoopback(listener.host) && !isLoopback(hostname))) return origin;
    return `http://${hostname}:${listener.port}`;
  };
  return { main: origin, otlpGrpc: of("otlp_grpc"), otlpHttp: of("otlp_http"), listensOn, direct };
}

function grpcNote(at, listeners) {
  if (at.direct) return undefined;
  const own = parts(listeners.otlp_grpc || listeners.main).port;
  return `A proxy in between has to pass HTTP/2 on to the server’s port ${own}.`;
}

function dataSources(at) {
  return [["Prometheus", at.main], ["Loki", at.main], ["Tempo", `${at.main}/tempo`], ["Jaeger", `${at.main}/jaeger`]];
}

const CURL_JSON = "curl -H 'Content-Type: application/json'";

function firstLine(at) {
  return `${CURL_JSON} ${at.main}/loki/api/v1/push \\
  -d '{"streams":[{"stream":{"job":"try"},"values":[["'$(date +%s)000000000'","hello"]]}]}'`;
}

// A Collector beside this server needs ports of its own, where this one has the usual ones.
function collector(at, taken) {
  const [grpc, http] = taken ? ["14317", "14318"] : ["4317", "4318"];
  const why = taken ? "  # 4317 and 4318 are taken where Trilith itself runs\n" : "";
  return `receivers:
${why}  otlp:
    protocols:
      grpc:
        endpoint: localhost:${grpc}
      http:
        endpoint: localhost:${http}
exporters:
  otlphttp:
    endpoint: ${at.otlpHttp}
service:
  pipelines:
    metrics:
      receivers: [otlp]
      exporters: [otlphttp]
    logs:
      receivers: [otlp]
      exporters: [otlphttp]
    traces:
      receivers: [otlp]
      exporters: [otlphttp]`;
}

// Kinds of senders; each has boxes, and a box a place, a text and what else to know.
function senders(at, listeners, hostname) {
  const samePort = at.listensOn.port === "9090" && isLoopback(hostname);
  return [
    { id: "prometheus", name: "Prometheus", boxes: [{
      where: "add to prometheus.yml",
      text: `remote_write:\n  - url: ${at.main}/api/v1/write`,
      note: samePort ? "Prometheus wants port 9090 too. On this machine start one of them elsewhere: `trilith --listen 127.0.0.1:9091`" : undefined,
    }] },
    { id: "alloy", name: "Grafana Alloy", boxes: [{
      where: "add to config.alloy, and forward to these",
      text: `prometheus.remote_write "trilith" {
  endpoint {
    url = "${at.main}/api/v1/write"
  }
}
loki.write "trilith" {
  endpoint {
    url = "${at.main}/loki/api/v1/push"
  }
}
otelcol.exporter.otlphttp "trilith" {
  client {
    endpoint = "${at.otlpHttp}"
  }
}`,
    }] },
    { id: "promtail", name: "Promtail", boxes: [{
      where: "the clients in promtail.yaml",
      text: `clients:\n  - url: ${at.main}/loki/api/v1/push`,
    }] },
    { id: "collector", name: "OpenTelemetry Collector", boxes: [{
      where: "config.yaml, whole",
      text: collector(at, Boolean(listeners.otlp_grpc || listeners.otlp_http)),
    }] },
    { id: "sdk", name: "OpenTelemetry SDK", boxes: [
      {
        where: "in the shell that starts your service, over HTTP",
        text: `export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf
export OTEL_EXPORTER_OTLP_ENDPOINT=${at.otlpHttp}
export OTEL_SERVICE_NAME=my-service`,
      },
      {
        where: "or over gRPC",
        text: `export OTEL_EXPORTER_OTLP_PROTOCOL=grpc
export OTEL_EXPORTER_OTLP_ENDPOINT=${at.otlpGrpc}
export OTEL_SERVICE_NAME=my-service`,
        note: grpcNote(at, listeners),
      },
      {
        where: "for metrics sooner than once a minute",
        text: "export OTEL_METRIC_EXPORT_INTERVAL=10000",
      },
    ] },
    { id: "curl", name: "curl", boxes: [
      { where: "a log line", text: firstLine(at) },
      { where: "a sample", text: `curl ${at.main}/api/v1/import/prometheus --data-binary 'try_temperature{room="kitchen"} 21.5'` },
      { where: "a span", text: `${CURL_JSON} ${at.otlpHttp}/v1/traces \\
  -d '{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"try"}}]},
    "scopeSpans":[{"spans":[{"name":"hello","kind":2,
      "traceId":"'$(printf %032x $(date +%s))'","spanId":"'$(printf %016x $(date +%s))'",
      "startTimeUnixNano":"'$(date +%s)000000000'","endTimeUnixNano":"'$(date +%s)250000000'"}]}]}]}'` },
    ] },
  ];
}

// What to know where the addresses are those of this machine alone; undefined where they are not.
function loopbackNote(at, hostname) {
  if (!isLoopback(hostname)) return undefined;
  const everywhere = `--listen 0.0.0.0:${at.listensOn.port}`;
  if (isLoopback(at.listensOn.host)) {
    return `Only this machine reaches this server. For a Grafana or an agent in a container or on another machine start it with \`${everywhere}\` and write this machine’s name for ${hostname}.`;
  }
  return `In a container or on another machine write this machine’s name for ${hostname}.`;
}

// What is stored, what comes in now, what to paste. Numbers come from the server's own pages and
// from the same query APIs that Grafana uses; nothing is sent anywhere else.
"use strict";

const EVERY_MS = 2000;
const POINTS = 60;
const SIGNALS = {
  metrics: { counter: "trilith_ingested_samples_total" },
  logs: { counter: "trilith_ingested_lines_total" },
  traces: { counter: "trilith_ingested_spans_total" },
};
const origin = location.origin;

const short = (value) => value.toLocaleString("en", { notation: value >= 10000 ? "compact" : "standard", maximumFractionDigits: value < 10 ? 1 : 0 });
const bytes = (value) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) { value /= 1024; at += 1; }
  return `${value.toFixed(value < 10 && at > 0 ? 1 : 0)} ${units[at]}`;
};
const span = (seconds) => {
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${seconds} s`;
};

async function ask(path) {
  const response = await fetch(path, { cache: "no-store" });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response;
}
const askJson = async (path) => (await ask(path)).json();

// The text exposition format, as far as this server writes it.
function parseMetrics(text) {
  const found = [];
  for (const line of text.split("\n")) {
    const match = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!match) continue;
    const labels = {};
    for (const pair of (match[2] || "").matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)) labels[pair[1]] = pair[2];
    found.push({ name: match[1], labels, value: Number(match[3]) });
  }
  return found;
}
const total = (metrics, name) => metrics.filter((m) => m.name === name).reduce((sum, m) => sum + m.value, 0);

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function facts(card, rows) {
  const list = document.querySelector(`#${card} [data-facts]`);
  list.replaceChildren(...rows.filter(([, value]) => value !== undefined).flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

const history = { metrics: [], logs: [], traces: [] };
let last = null;

function showRates(metrics) {
  const now = performance.now();
  for (const [signal, { counter }] of Object.entries(SIGNALS)) {
    const value = total(metrics, counter);
    if (last && value >= last.values[signal]) {
      const rate = (value - last.values[signal]) / ((now - last.at) / 1000);
      const line = history[signal];
      line.push(rate);
      if (line.length > POINTS) line.shift();
      document.querySelector(`#${signal} [data-rate]`).textContent = short(rate);
      const top = Math.max(...line, 1e-9);
      const points = line.map((rate, at) => `${((POINTS - line.length + at) * 120) / (POINTS - 1)},${27 - (rate / top) * 25}`);
      document.querySelector(`#${signal} polyline`).setAttribute("points", points.join(" "));
    }
  }
  last = { at: now, values: Object.fromEntries(Object.entries(SIGNALS).map(([signal, { counter }]) => [signal, total(metrics, counter)])) };
}

function showRefused(metrics) {
  const rows = metrics.filter((m) => m.name === "trilith_rejected_total" && m.value > 0);
  document.getElementById("refused").hidden = rows.length === 0;
  document.querySelector("#refused tbody").replaceChildren(...rows.map((m) => {
    const row = element("tr");
    row.append(element("td", m.labels.signal), element("td", (m.labels.reason || "").replaceAll("_", " ")), element("td", short(m.value), "number"));
    return row;
  }));
}

function showServer(status, metrics) {
  const state = document.getElementById("state");
  state.textContent = status.ready ? "ready" : status.reason;
  state.className = `state ${status.ready ? "good" : "bad"}`;
  document.getElementById("about").textContent = `version ${status.version}, up ${span(status.uptime_seconds)}, data in ${status.data_dir}`;
  const cpu = total(metrics, "process_cpu_seconds_total");
  facts("server", [
    ["memory", `${bytes(status.memory.resident_bytes)} of ${bytes(status.memory.limit_bytes)}`],
    ["disk free", status.disk.free_bytes === null ? undefined : `${bytes(status.disk.free_bytes)} of ${bytes(status.disk.total_bytes)}`],
    ["CPU time", `${short(cpu)} s`],
    ["connections", short(total(metrics, "trilith_connections"))],
    ["main", status.listeners.main],
    ["OTLP gRPC", status.listeners.otlp_grpc],
    ["OTLP HTTP", status.listeners.otlp_http],
    ["Loki", status.listeners.loki],
    ["Tempo", status.listeners.tempo],
  ]);
  const loopback = /^(127\.|\[::1\])/.test(status.listeners.main);
  document.getElementById("loopback").hidden = !loopback;
}

function stored(metrics, signal) {
  const value = metrics.filter((m) => m.name === "trilith_part_bytes" && m.labels.signal === signal).reduce((sum, m) => sum + m.value, 0);
  return metrics.some((m) => m.name === "trilith_part_bytes") ? bytes(value) : undefined;
}

const listed = (names) => names.slice(0, 12).join(", ") + (names.length > 12 ? ` and ${names.length - 12} more` : "");

async function showStored(status, metrics) {
  const data = async (path) => (await askJson(path)).data || [];
  const quiet = (promise) => promise.catch(() => []);
  const [names, jobs, labels, apps, services] = await Promise.all([
    quiet(data("/api/v1/label/__name__/values")),
    quiet(data("/api/v1/label/job/values")),
    quiet(data("/loki/api/v1/labels")),
    quiet(data("/loki/api/v1/label/service_name/values")),
    quiet(data("/jaeger/api/services")),
  ]);
  const show = (signal, list) => { document.querySelector(`#${signal} [data-names]`).textContent = listed(list); };
  facts("metrics", [["names", short(names.length)], ["jobs", short(jobs.length)], ["in parts", stored(metrics, "metrics")], ["kept for", status.retention.metrics]]);
  show("metrics", jobs);
  facts("logs", [["services", short(apps.length)], ["labels", short(labels.length)], ["in parts", stored(metrics, "logs")], ["kept for", status.retention.logs]]);
  show("logs", apps);
  facts("traces", [["services", short(services.length)], ["in parts", stored(metrics, "traces")], ["kept for", status.retention.traces]]);
  show("traces", services);
}

// Counting takes the server a moment, so it is asked when somebody looks.
async function showSeries() {
  const own = document.getElementById("series");
  if (!own.open) return;
  const note = own.querySelector("[data-total]");
  const seconds = Number(own.querySelector("select").value);
  const end = Math.floor(Date.now() / 1000);
  note.textContent = "counting";
  try {
    const { data } = await askJson(`/api/v1/status/tsdb?limit=10${seconds ? `&start=${end - seconds}&end=${end}` : ""}`);
    note.textContent = `${data.headStats.numSeries.toLocaleString("en")} series`;
    for (const body of own.querySelectorAll("[data-list]")) {
      const list = (data[body.dataset.list] || []).slice(0, 10);
      if (body.dataset.list === "refusedByMetricName") body.closest("table").hidden = list.length === 0;
      body.replaceChildren(...list.map(({ name, value }) => {
        const row = element("tr");
        const cell = element("td");
        cell.append(element("code", name));
        row.append(cell, element("td", value.toLocaleString("en"), "number"));
        return row;
      }));
    }
  } catch (error) {
    note.textContent = `no answer: ${error.message}`;
  }
}

function copyButton(text) {
  const button = element("button", "copy");
  button.type = "button";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "copied";
    } catch {
      button.textContent = "select it by hand";
    }
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
  return button;
}

function showPaste() {
  const rows = [["Prometheus", origin], ["Loki", origin], ["Tempo", `${origin}/tempo`], ["Jaeger", `${origin}/jaeger`]];
  document.getElementById("datasources").replaceChildren(...rows.map(([type, url]) => {
    const row = element("tr");
    const cell = element("td");
    cell.append(element("code", url), copyButton(url));
    row.append(element("td", type), cell);
    return row;
  }));
  const senders = [
    ["Prometheus", "prometheus.yml", `remote_write:\n  - url: ${origin}/api/v1/write`],
    ["Promtail", "promtail.yaml", `clients:\n  - url: ${origin}/loki/api/v1/push`],
    ["Grafana Alloy", "config.alloy", `prometheus.remote_write "trilith" {
  endpoint { url = "${origin}/api/v1/write" }
}
loki.write "trilith" {
  endpoint { url = "${origin}/loki/api/v1/push" }
}
otelcol.exporter.otlphttp "trilith" {
  client { endpoint = "${origin}" }
}`],
    ["OpenTelemetry Collector", "config.yaml", `exporters:
  otlphttp:
    endpoint: ${origin}
service:
  pipelines:
    metrics: { receivers: [otlp], exporters: [otlphttp] }
    logs: { receivers: [otlp], exporters: [otlphttp] }
    traces: { receivers: [otlp], exporters: [otlphttp] }`],
    ["OpenTelemetry SDK", "environment", `OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf\nOTEL_EXPORTER_OTLP_ENDPOINT=${origin}\nOTEL_SERVICE_NAME=my-service`],
    ["OpenTelemetry SDK over gRPC", "environment", `OTEL_EXPORTER_OTLP_PROTOCOL=grpc\nOTEL_EXPORTER_OTLP_ENDPOINT=${origin}\nOTEL_SERVICE_NAME=my-service`],
    ["curl", "a first log line", `curl -H 'Content-Type: application/json' ${origin}/loki/api/v1/push \\
  -d '{"streams":[{"stream":{"job":"try"},"values":[["'$(date +%s%N)'","hello"]]}]}'`],
  ];
  document.getElementById("senders").replaceChildren(...senders.flatMap(([name, where, text]) => {
    const box = element("div", undefined, "copied");
    const pre = element("pre");
    pre.append(element("code", text));
    box.append(pre, copyButton(text));
    const head = element("h3", name);
    head.append(element("span", ` ${where}`, "quiet"));
    return [head, box];
  }));
}

let turn = 0;
async function refresh() {
  try {
    const [status, text] = await Promise.all([askJson("/-/status"), ask("/metrics").then((response) => response.text())]);
    const metrics = parseMetrics(text);
    showServer(status, metrics);
    showRates(metrics);
    showRefused(metrics);
    if (status.ready && turn % 5 === 0) await showStored(status, metrics);
    turn += 1;
  } catch (error) {
    const state = document.getElementById("state");
    state.textContent = "no answer";
    state.className = "state bad";
  }
  setTimeout(refresh, document.hidden ? EVERY_MS * 5 : EVERY_MS);
}

document.getElementById("series").addEventListener("toggle", showSeries);
document.querySelector("#series select").addEventListener("change", showSeries);
showSeries();
showPaste();
refresh();

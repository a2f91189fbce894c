// What is stored, what comes in now, what to paste. Numbers come from the server's own page /-/status and from the same
// query APIs that Grafana uses; nothing is sent anywhere else.
"use strict";

const EVERY_MS = 2000;
const NAMES_EVERY = 5;
const NAMES_SHOWN = 12;
const SIGNALS = ["metrics", "logs", "traces"];

const byId = (id) => document.getElementById(id);
const short = (value) => value >= 10000
  ? value.toLocaleString("en", { notation: "compact", maximumSignificantDigits: 3 })
  : value.toLocaleString("en", { maximumFractionDigits: value < 1 ? 2 : value < 10 ? 1 : 0 });
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
const kept = (retention) => retention.replace(/^(\d+)d$/, (_, days) => (days === "1" ? "1 day" : `${days} days`));
const words = (reason) => (reason || "").replaceAll("_", " ");

async function askJson(path) {
  const response = await fetch(path, { cache: "no-store" });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
}

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// Text with `code` in it.
function marked(text) {
  return text.split("`").map((part, at) => (at % 2 === 1 ? element("code", part) : document.createTextNode(part)));
}

function row(...cells) {
  const made = element("tr");
  made.append(...cells.map((cell) => (cell instanceof Node ? cell : element("td", cell))));
  return made;
}

function facts(card, rows) {
  const list = document.querySelector(`#${card} [data-facts]`);
  list.replaceChildren(...rows.filter(([, value]) => value !== undefined).flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

function showLine(card, own) {
  const line = own.rate_line;
  const top = Math.max(...line);
  const points = line.map((rate, at) => `${((at * 120) / (line.length - 1)).toFixed(2)},${(27 - (top > 0 ? rate / top : 0) * 25).toFixed(2)}`);
  card.querySelector("polyline").setAttribute("points", points.join(" "));
  card.querySelector("polygon").setAttribute("points", `0,28 ${points.join(" ")} 120,28`);
  const minutes = Math.round(((line.length - 1) * own.rate_line_seconds) / 60);
  card.querySelector("[data-span]").textContent = `${minutes} minutes${top > 0 ? `, at most ${short(top)} a second` : ""}`;
}

// What is acknowledged counts as stored, whether it lies in a part already or in the log.
function showSignals(status) {
  for (const signal of SIGNALS) {
    const [card, own] = [byId(signal), status.signals[signal]];
    card.querySelector("[data-rate]").textContent = short(own.rate);
    showLine(card, own);
    facts(signal, [
      ["stored", bytes(own.stored_bytes)],
      ["received since start", short(own.taken)],
      ["active series", own.active_series === null ? undefined : short(own.active_series)],
      ["kept for", kept(status.retention[signal])],
    ]);
  }
}

function showServer(status) {
  const state = byId("state");
  state.textContent = status.ready ? "ready" : status.reason;
  state.className = `state ${status.ready ? "good" : "bad"}`;
  byId("about").textContent = `version ${status.version}, up ${span(status.uptime_seconds)}, data in ${status.data_dir}`;
  byId("conditions").hidden = status.conditions.length === 0;
  byId("conditions").replaceChildren(...status.conditions.map((own) => element("p", `${words(own.name)}: ${own.text}`, "note bad")));
  facts("server", [
    ["memory", `${bytes(status.memory.resident_bytes)} of ${bytes(status.memory.limit_bytes)}`],
    ["disk free", status.disk.free_bytes === null ? undefined : `${bytes(status.disk.free_bytes)} of ${bytes(status.disk.total_bytes)}`],
    ["CPU time", `${short(status.cpu_seconds)} s`],
    ["connections", short(status.connections)],
    ["everything", status.listeners.main],
    ["OTLP gRPC", status.listeners.otlp_grpc],
    ["OTLP HTTP", status.listeners.otlp_http],
    ["Loki", status.listeners.loki],
    ["Tempo", status.listeners.tempo],
  ]);
}

function showRefused(status) {
  const [sums, lately] = [status.refused, status.refused_lately || []];
  const none = sums.length + lately.length === 0;
  byId("refused").hidden = none;
  byId("to-refused").hidden = none;
  byId("lately").hidden = lately.length === 0;
  byId("refused-sums").hidden = sums.length === 0;
  document.querySelector("#lately tbody").replaceChildren(...lately.map((own) => {
    const what = element("td");
    what.append(element("code", own.name || own.receiver), ...(own.advice ? [element("p", own.advice, "quiet")] : []));
    const at = new Date(own.at_ms);
    const when = element("td", at.toLocaleTimeString());
    when.title = at.toLocaleString();
    return row(when, `${words(own.reason)}${own.count > 1 ? ` (${short(own.count)})` : ""}`, what, own.sender);
  }));
  document.querySelector("#refused-sums tbody").replaceChildren(...sums.map((own) => row(own.signal, words(own.reason), element("td", short(own.count), "number"))));
}

async function names(path, read) {
  try {
    return read(await askJson(path)) || [];
  } catch {
    return [];
  }
}

// Names of what is stored, a few of each signal. Answers whether there are any.
async function showNames() {
  const few = `limit=${NAMES_SHOWN + 1}`;
  const [jobs, apps, services] = await Promise.all([
    names(`/api/v1/label/job/values?${few}`, (answer) => answer.data),
    names("/loki/api/v1/label/service_name/values", (answer) => answer.data),
    names("/jaeger/api/services", (answer) => answer.data),
  ]);
  const metrics = jobs.length > 0 ? [] : await names(`/api/v1/label/__name__/values?${few}`, (answer) => answer.data);
  const listed = (what, list) => {
    if (list.length === 0) return "";
    return `${what}: ${list.slice(0, NAMES_SHOWN).join(", ")}${list.length > NAMES_SHOWN ? " and more" : ""}`;
  };
  const show = (signal, text) => { document.querySelector(`#${signal} [data-names]`).textContent = text; };
  show("metrics", listed("jobs", jobs) || listed("metrics", metrics));
  show("logs", listed("services", apps));
  show("traces", listed("services", services));
  return [jobs, metrics, apps, services].some((list) => list.length > 0);
}

// Counting takes the server a moment, so it is asked when somebody looks.
async function showSeries() {
  const own = byId("series");
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
        const cell = element("td");
        cell.append(element("code", name));
        return row(cell, element("td", value.toLocaleString("en"), "number"));
      }));
    }
  } catch (error) {
    note.textContent = `no answer: ${error.message}`;
  }
}

// Browsers give the clipboard only to pages of HTTPS or of this machine; the older way works everywhere.
async function copy(code) {
  if (navigator.clipboard) {
    try {
      return await navigator.clipboard.writeText(code.textContent);
    } catch { /* The older way is left. */ }
  }
  const selection = getSelection();
  selection.selectAllChildren(code);
  if (!document.execCommand("copy")) throw new Error("not allowed");
  selection.removeAllRanges();
}

function copyButton(code) {
  const button = element("button", "copy", "copy");
  button.type = "button";
  button.addEventListener("click", async () => {
    button.textContent = await copy(code).then(() => "copied", () => "selected: copy it by hand");
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
  return button;
}

// A text with its button.
function pasteBox(text) {
  const box = element("div", undefined, "paste");
  const pre = element("pre");
  pre.tabIndex = 0;
  const code = element("code", text);
  pre.append(code);
  box.append(copyButton(code), pre);
  return box;
}

function choose(id) {
  for (const tab of document.querySelectorAll("#kinds button")) {
    const chosen = tab.dataset.kind === id;
    tab.setAttribute("aria-selected", chosen);
    tab.tabIndex = chosen ? 0 : -1;
  }
  for (const panel of document.querySelectorAll("#senders > div")) panel.hidden = panel.dataset.kind !== id;
}

function kindButton({ id, name }) {
  const tab = element("button", name);
  tab.type = "button";
  tab.dataset.kind = id;
  tab.setAttribute("role", "tab");
  tab.addEventListener("click", () => choose(id));
  tab.addEventListener("keydown", (event) => {
    const to = { ArrowRight: tab.nextSibling, ArrowLeft: tab.previousSibling }[event.key];
    if (to) { to.focus(); to.click(); }
  });
  return tab;
}

function kindPanel({ id, name, boxes }) {
  const panel = element("div");
  panel.dataset.kind = id;
  panel.setAttribute("role", "tabpanel");
  panel.setAttribute("aria-label", name);
  panel.append(...boxes.flatMap(({ where, text, note }) => {
    const made = [element("p", where, "quiet where"), pasteBox(text)];
    if (!note) return made;
    const said = element("p", undefined, "quiet");
    said.append(...marked(note));
    return [...made, said];
  }));
  return panel;
}

// The addresses change only with a restart, so this is made once.
function showPaste(status) {
  const at = addresses(status.listeners, location);
  byId("datasources").replaceChildren(...dataSources(at).map(([type, url]) => {
    const cell = element("td");
    const code = element("code", url);
    cell.append(copyButton(code), code);
    return row(type, cell);
  }));
  const kinds = senders(at, status.listeners, location.hostname);
  byId("kinds").replaceChildren(...kinds.map(kindButton));
  byId("senders").replaceChildren(...kinds.map(kindPanel));
  choose(kinds[0].id);
  byId("try").replaceChildren(pasteBox(firstLine(at)));
  const note = loopbackNote(at, location.hostname);
  byId("loopback").hidden = note === undefined;
  byId("loopback").replaceChildren(...marked(note || ""));
}

let turn = 0;
let pasted = "";
let isEmpty = true;

async function refresh() {
  try {
    const status = await askJson("/-/status");
    showServer(status);
    showSignals(status);
    showRefused(status);
    if (pasted !== JSON.stringify(status.listeners)) {
      showPaste(status);
      pasted = JSON.stringify(status.listeners);
    }
    const came = SIGNALS.some((signal) => status.signals[signal].taken + status.signals[signal].parts_rows > 0);
    if (status.ready && (turn % NAMES_EVERY === 0 || (came && isEmpty))) {
      isEmpty = !(await showNames() || came);
      byId("start").hidden = !isEmpty;
    }
    turn += 1;
  } catch {
    byId("state").textContent = "no answer";
    byId("state").className = "state bad";
  }
  setTimeout(refresh, document.hidden ? EVERY_MS * 5 : EVERY_MS);
}

byId("series").addEventListener("toggle", showSeries);
document.querySelector("#series select").addEventListener("change", showSeries);
showSeries();
refresh();

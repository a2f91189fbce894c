"""The web page in Debian's Chromium: what a newcomer sees on an empty server and on a full one, at the width of a desk
and of a phone; that rates hold steady; that what a button copies is what its box shows, and works.

Usage: page.py TRILITH [FOLDER_FOR_PICTURES]

Without chromium it says that it is skipped; with WEB=require, which .ci/run sets, that is a failure, as is a missing
prometheus."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

try:
    import yaml

    from browser import Browser
except ModuleNotFoundError as missing:
    if os.environ.get("WEB") == "require":
        raise
    sys.exit(print(f"SKIPPED: {missing.name} is missing; .ci/run installs tests/web/requirements.txt"))

HERE = pathlib.Path(__file__).parent
DESK, PHONE = (1280, 900), (390, 844)
EXTRA = ("otlp-grpc", "otlp-http", "loki", "tempo")


def program(name):
    found = shutil.which(name)
    if found is None:
        assert os.environ.get("WEB") != "require", f"WEB=require, but {name} is missing"
        print(f"SKIPPED: {name} is missing; .ci/run installs it")
    return found


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for own in sockets:
            own.bind(("127.0.0.1", 0))
        return [own.getsockname()[1] for own in sockets]


def wait_for(what, ask, seconds=30):
    end = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.2)
    return answer


@contextlib.contextmanager
def process(command, **options):
    """A program that is ended with all that it started."""
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, **options)
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


class Server:
    """A Trilith of its own on free ports."""

    def __init__(self, stack, binary, extra=True):
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="trilith-web-"))
        main, *others = free_ports(1 + len(EXTRA))
        self.port, self.extra = main, dict(zip(EXTRA, others)) if extra else {}
        self.base = f"http://127.0.0.1:{main}"
        flags = [f"--listen-{name}=127.0.0.1:{port}" for name, port in self.extra.items()] or ["--no-extra-listeners"]
        stack.enter_context(process([binary, f"--data-dir={folder}/data", f"--listen=127.0.0.1:{main}", *flags]))
        wait_for("the server", lambda: self.status("/-/ready") == 200)

    def status(self, path):
        try:
            return urllib.request.urlopen(self.base + path, timeout=10).status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def send(self, path, body, kind="application/json"):
        """The status of a push."""
        body = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        request = urllib.request.Request(self.base + path, body, {"Content-Type": kind})
        try:
            return urllib.request.urlopen(request, timeout=10).status
        except urllib.error.HTTPError as error:
            return error.code

    def json(self, path):
        return json.load(urllib.request.urlopen(self.base + path, timeout=10))

    def samples(self, query):
        return self.json(f"/api/v1/query?query={urllib.parse.quote(query)}")["data"]["result"]

    def lines(self, selector):
        return self.json(f"/loki/api/v1/query_range?query={urllib.parse.quote(selector)}")["data"]["result"]


def lines(labels, count, at=None):
    at = time.time_ns() if at is None else at
    return {"streams": [{"stream": labels, "values": [[str(at + own), f"line {own}"] for own in range(count)]}]}


def spans(service, count):
    now = time.time_ns()
    made = [{"name": "GET /", "kind": 2, "traceId": f"{now + own:032x}", "spanId": f"{now % 2**40 + own:016x}",
             "startTimeUnixNano": str(now - 10**6), "endTimeUnixNano": str(now)} for own in range(count)]
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": made}]}]}


@contextlib.contextmanager
def forwarded(port):
    """Another port that leads to the same server, as of a container."""

    def copy(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                near = door.accept()[0]
                far = socket.create_connection(("127.0.0.1", port))
                for two in ((near, far), (far, near)):
                    threading.Thread(target=copy, args=two, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=accept, daemon=True).start()
        yield door.getsockname()[1]


class Steady(threading.Thread):
    """Sends at constant rates: 500 samples every 5 s, 300 lines every 15 s."""

    SAMPLES, LINES = 100, 20

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.ended, self.began = server, threading.Event(), time.monotonic()

    def run(self):
        for turn in range(10_000):
            text = "".join(f'steady{{job="bench",number="{own}"}} {turn}\n' for own in range(500))
            assert self.server.send("/api/v1/import/prometheus", text, "text/plain") == 204
            if turn % 3 == 0:
                assert self.server.send("/loki/api/v1/push", lines({"app": "steady"}, 300)) == 204
            if self.ended.wait(self.began + 5 * (turn + 1) - time.monotonic()):
                break

    def stop(self):
        self.ended.set()
        self.join()


class Look:
    """Opens pages, takes pictures, and holds what is true of each of them."""

    def __init__(self, browser, pictures):
        self.browser, self.pictures = browser, pictures

    @contextlib.contextmanager
    def at(self, url, size, name, ready, errors=(), dark=False):
        page = self.browser.open(url, *size, dark=dark)
        page.until(ready, f"{name} at {size[0]}")
        page.call("Page.bringToFront")
        yield page
        if self.pictures:
            page.shot(f"{self.pictures}/{name}-{size[0]}{'-dark' if dark else ''}.png")
        wide = page.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} at {size[0]}: {wide} pixels beyond the edge"
        left = [own for own in page.problems if not any(allowed in own for allowed in errors)]
        assert not left, f"{name} at {size[0]}: {left}"
        origin = re.match(r"https?://[^/]+/", url).group()
        other = [own for own in page.asked if not own.startswith((origin, "about:", "data:"))]
        assert not other, f"{name} asks others: {other}"
        page.close()


SHOWN = "document.getElementById('state').textContent === 'ready' && document.querySelectorAll('#senders pre').length > 5"
EMPTY = f"{SHOWN} && !document.getElementById('start').hidden"
FULL = f"{SHOWN} && ['metrics','logs','traces'].every(own => document.querySelector(`#${{own}} [data-names]`).textContent)"


def what_a_page_complains_of_is_noticed(look, server):
    page = look.browser.open(server.base + "/", *DESK)
    for provoke, word in [
        ("console.error('on purpose')", "on purpose"),
        ("void setTimeout(() => { throw new Error('thrown') })", "thrown"),
        ("fetch('/no/such/page').then(() => 0)", "404"),
        ("fetch('http://127.0.0.1:9/').catch(() => 0)", "127.0.0.1:9"),
    ]:
        page.problems.clear()
        page.run(provoke)
        page.browser.listen(0.5)
        assert any(word in own for own in page.problems), f"{provoke} was not noticed: {page.problems}"
    page.close()


def an_empty_server_says_what_to_do_first(look, server):
    for size in (DESK, PHONE):
        for dark in (False, True):
            with look.at(server.base + "/", size, "empty", EMPTY, dark=dark) as page:
                text = page.text()
                for words in ("Nothing is stored yet", "Send data", "Add to Grafana", "Only this machine reaches"):
                    assert words in text, f"{words!r} is missing in\n{text}"
                assert "Refused since" not in text, text


def snippets(page):
    """What the boxes show, by the kind of sender."""
    return page.run("""[...document.querySelectorAll('#senders > div')].map(own => [own.dataset.kind,
        [...own.querySelectorAll('pre')].map(pre => pre.textContent)])""")


COPY = """(async () => {
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const clipboard = navigator.clipboard;
  if (OLD_WAY) Object.defineProperty(navigator, 'clipboard', { value: undefined, configurable: true });
  const wrong = [];
  let copied = 0;
  const buttons = [...document.querySelectorAll('button.copy')];
  for (const button of buttons) {
    const panel = button.closest('[data-kind]');
    if (panel) document.querySelector(`#kinds [data-kind=${panel.dataset.kind}]`).click();
    if (!button.checkVisibility()) { wrong.push(['is not to be seen', button.parentElement.textContent]); continue; }
    await clipboard.writeText('');
    button.click();
    for (let turn = 0; turn < 50 && button.textContent === 'copy'; turn += 1) await wait(10);
    const shown = button.parentElement.querySelector('code').innerText;
    const held = await clipboard.readText();
    if (held !== shown || button.textContent !== 'copied') wrong.push([button.textContent, shown, held]);
    copied += 1;
  }
  delete navigator.clipboard;
  document.querySelector('#kinds button').click();
  return { copied, wrong };
})()"""


def each_button_copies_what_its_box_shows(look, server):
    for old_way in (False, True):
        with look.at(server.base + "/", DESK, "copy", EMPTY) as page:
            copied = page.run(COPY.replace("OLD_WAY", str(old_way).lower()))
            assert not copied["wrong"], copied
            boxes = page.run("document.querySelectorAll('pre').length + document.querySelectorAll('#datasources tr').length")
            assert copied["copied"] == boxes >= 13, (copied, boxes)


def hints_have_the_port_of_each_listener(look, server, alone):
    with look.at(server.base + "/", DESK, "ports", SHOWN) as page:
        kinds = dict(snippets(page))
        assert f"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:{server.extra['otlp-http']}\n" in kinds["sdk"][0], kinds["sdk"]
        assert f"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:{server.extra['otlp-grpc']}\n" in kinds["sdk"][1], kinds["sdk"]
        assert f"endpoint: http://127.0.0.1:{server.extra['otlp-http']}\n" in kinds["collector"][0]
        sources = page.run("[...document.querySelectorAll('#datasources code')].map(own => own.textContent)")
        assert sources == [server.base + own for own in ("", "", "/tempo", "/jaeger")], sources
        assert f"--listen 0.0.0.0:{server.port}" in page.text()
    with look.at(alone.base.replace("127.0.0.1", "localhost") + "/", DESK, "ports", SHOWN) as page:
        said = json.dumps(snippets(page))
        assert set(re.findall(r"http://[\w.]+:\d+", said)) == {f"http://localhost:{alone.port}"}, said


def by_another_port_all_hints_have_that_port(look, server):
    with forwarded(server.port) as port, look.at(f"http://localhost:{port}/", DESK, "forwarded", SHOWN) as page:
        said = json.dumps(snippets(page))
        assert set(re.findall(r"http://[\w.]+:\d+", said)) == {f"http://localhost:{port}"}, said
        assert f"pass HTTP/2 on to the server’s port {server.extra['otlp-grpc']}" in page.run("document.getElementById('senders').textContent")


def run_shell(text):
    done = subprocess.run(["bash", "-euc", text], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
    assert "error" not in (done.stdout + done.stderr).lower(), f"{text}\n{done.stdout}{done.stderr}"


def snippets_do_what_they_say(look, server):
    with look.at(server.base + "/", DESK, "snippets", SHOWN) as page:
        kinds = dict(snippets(page))
        kinds["try"] = page.run("[document.querySelector('#try pre').textContent]")
    for text in kinds["curl"] + kinds["try"]:
        run_shell(text.replace("curl ", "curl -sS --fail-with-body ", 1))
    assert server.lines('{job="try"}'), "the line of curl is not there"
    assert server.samples('try_temperature{room="kitchen"}')[0]["value"][1] == "21.5"
    wait_for("the span of curl", lambda: "try" in server.json("/jaeger/api/services")["data"])
    for name, text in zip(("over-http", "over-grpc"), kinds["sdk"]):
        run_shell(f"{text}\nexec {sys.executable} {HERE}/sdk_send.py {name}")
        operations = lambda: server.json("/jaeger/api/services/my-service/operations")["data"]
        wait_for(f"the span {name}", lambda: name in operations())
    prometheus_writes(server, kinds["prometheus"][0])
    assert yaml.safe_load(kinds["promtail"][0]) == {"clients": [{"url": f"{server.base}/loki/api/v1/push"}]}
    collector_is_whole(kinds["collector"][0])
    alloy = kinds["alloy"][0]
    assert alloy.count("{") == alloy.count("}") == 6 and alloy.count('"') % 2 == 0, alloy


def prometheus_writes(server, snippet):
    prometheus = program("prometheus")
    if prometheus is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        scrape = {"job_name": "itself", "scrape_interval": "1s", "static_configs": [{"targets": [f"127.0.0.1:{server.port}"]}]}
        config = f"{snippet}\n{yaml.safe_dump({'scrape_configs': [scrape]})}"
        pathlib.Path(folder, "prometheus.yml").write_text(config, encoding="utf-8")
        [port] = free_ports(1)
        with process([prometheus, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                      f"--web.listen-address=127.0.0.1:{port}"]):
            wait_for("what Prometheus writes", lambda: server.samples('up{job="itself"} == 1'), 60)


def collector_is_whole(text):
    """By the Collector's rules: every component of a pipeline is there, and every one there is used."""
    config = yaml.safe_load(text)
    assert set(config) == {"receivers", "exporters", "service"}, config
    pipelines = config["service"]["pipelines"]
    assert set(pipelines) == {"metrics", "logs", "traces"}, pipelines
    for kind in ("receivers", "exporters"):
        assert {name for own in pipelines.values() for name in own[kind]} == set(config[kind]), (kind, config)
    collector = shutil.which("otelcol") or shutil.which("otelcol-contrib")
    if collector:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(text)
            file.flush()
            subprocess.run([collector, "validate", f"--config={file.name}"], check=True, timeout=60)


HOSTILE = "<img src=x onerror=alert(1)>"


def fill(server):
    text = "".join(f'http_requests_total{{job="shop",instance="{own}",code="200"}} {own}\n' for own in range(200))
    assert server.send("/api/v1/import/prometheus", text, "text/plain") == 204
    for app in ("checkout", "payments", HOSTILE):
        assert server.send("/loki/api/v1/push", lines({"app": app, "level": "info"}, 50)) == 204
    assert server.send("/v1/traces", spans("checkout", 40)) == 200


def refuse(server):
    """Sends what is refused: lines of long ago, a sample of the far future, a body that is none, a wrong path."""
    assert server.send("/loki/api/v1/push", lines({"app": HOSTILE, "password": "hunter2"}, 3, at=10**18)) == 400
    ahead = f'far_ahead{{password="hunter2"}} 1 {int((time.time() + 10**6) * 1000)}\n'
    assert server.send("/api/v1/import/prometheus", ahead, "text/plain") == 400
    assert server.send("/v1/logs", '{"resourceLogs": "hunter2"}') == 400
    assert server.send("/loki/push", "{}") == 404


def a_full_server_shows_what_is_there(look, server):
    for size in (DESK, PHONE):
        for dark in (False, True):
            with look.at(server.base + "/", size, "full", FULL, dark=dark) as page:
                text = page.text()
                for words in ("jobs: bench, shop", "checkout", "payments", HOSTILE, "services: checkout"):
                    assert words in text, f"{words!r} is missing in\n{text}"
                assert "Nothing is stored yet" not in text
                stored = page.run("""['metrics','logs','traces'].map(own => [...document.querySelectorAll(`#${own} dt`)]
                    .find(dt => dt.textContent === 'stored').nextSibling.textContent)""")
                assert all(re.fullmatch(r"[1-9][\d.]* (B|KiB|MiB)", own) for own in stored), stored
                page.run("document.querySelector('#series summary').click()")
                page.until("document.querySelectorAll('[data-list=seriesCountByMetricName] tr').length > 1", "series")


def what_was_refused_is_shown_with_reason_and_sender(look, server):
    for size in (DESK, PHONE):
        with look.at(server.base + "/", size, "refused", f"{SHOWN} && !document.getElementById('lately').hidden") as page:
            rows = page.run("""[...document.querySelectorAll('#lately tbody tr')].map(row =>
                [...row.cells].slice(1).map(cell => cell.innerText))""")
            found = {(reason, what.split("\n")[0], sender) for reason, what, sender in rows}
            expected = {("too old (3)", HOSTILE, "127.0.0.1"), ("too far in future", "far_ahead", "127.0.0.1"),
                        ("malformed", "otlp_logs", "127.0.0.1"), ("wrong path", "/loki/push", "127.0.0.1")}
            assert expected <= found, found
            assert f"Loki's push is taken at {server.base}/loki/api/v1/push" in json.dumps(rows), rows
            assert "hunter2" not in page.run("document.documentElement.outerHTML"), "a secret is shown"


def rates_hold_steady_under_a_steady_load(look, server, steady):
    # Two pushes that are 15 s apart, and the time that each counts for.
    time.sleep(max(0, steady.began + 50 - time.monotonic()))
    with look.at(server.base + "/", DESK, "steady", FULL) as page:
        for _ in range(30):
            shown = page.run("['metrics', 'logs'].map(own => document.querySelector(`#${own} [data-rate]`).textContent)")
            for own, rate, expected in zip(("metrics", "logs"), shown, (steady.SAMPLES, steady.LINES)):
                assert abs(float(rate) / expected - 1) <= 0.25, f"{own}: {rate} a second instead of {expected}"
            page.browser.listen(1)
        heights = page.run("""['metrics', 'logs'].map(own => document.querySelector(`#${own} polyline`)
            .getAttribute('points').split(' ').slice(-6).map(point => 27 - Number(point.split(',')[1])))""")
        for own in heights:
            assert min(own) > 0 and max(own) / min(own) < 1.4, f"the line jumps: {own}"


def bookmarks_of_other_servers_say_what_is_here_instead(look, server):
    for path, words in [("/graph", "Explore"), ("/targets", "agents send"), ("/alerts", "alerting"), ("/explore", "Explore")]:
        for size in (DESK, PHONE):
            name, url = path.strip("/"), server.base + path
            # That such a page is 404 is what programs go by.
            with look.at(url, size, name, "document.links.length > 2", errors=(f"404 of {url}", f"404 (Not Found) {url}")) as page:
                assert words in page.text(), page.text()
                assert page.run("getComputedStyle(document.querySelector('.card')).borderTopStyle") == "solid", "no style"
        page = look.browser.open(url, *DESK)
        page.run("[...document.links].find(own => own.textContent === 'Add to Grafana').click()")
        page.until("location.pathname === '/' && document.getElementById('grafana') !== null", "the page")
        page.close()


def main():
    chromium = program("chromium")
    if chromium is None:
        return
    binary = sys.argv[1]
    with contextlib.ExitStack() as stack:
        empty, full, alone = (Server(stack, binary, extra) for extra in (True, True, False))
        steady = Steady(full)
        steady.start()
        stack.callback(steady.stop)
        fill(full)
        browser = Browser(chromium)
        stack.callback(browser.close)
        look = Look(browser, sys.argv[2] if len(sys.argv) > 2 else None)
        step("what a page complains of is noticed", what_a_page_complains_of_is_noticed, look, empty)
        step("an empty server says what to do first", an_empty_server_says_what_to_do_first, look, empty)
        step("each button copies what its box shows", each_button_copies_what_its_box_shows, look, empty)
        step("hints have the port of each listener", hints_have_the_port_of_each_listener, look, empty, alone)
        step("by another port all hints have that port", by_another_port_all_hints_have_that_port, look, empty)
        step("a full server shows what is there", a_full_server_shows_what_is_there, look, full)
        step("bookmarks of other servers say what is here instead", bookmarks_of_other_servers_say_what_is_here_instead, look, full)
        step("snippets do what they say", snippets_do_what_they_say, look, empty)
        step("rates hold steady under a steady load", rates_hold_steady_under_a_steady_load, look, full, steady)
        refuse(full)
        step("what was refused is shown with reason and sender", what_was_refused_is_shown_with_reason_and_sender, look, full)


BEGAN = time.monotonic()


def step(name, work, *args):
    work(*args)
    print(f"ok {name} ({time.monotonic() - BEGAN:.0f} s)", flush=True)


if __name__ == "__main__":
    main()

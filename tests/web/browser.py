"""A headless Chromium, driven over its DevTools protocol. Everything that a page complains of is kept: errors and
warnings of the console, exceptions, requests that fail or are answered with an error."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

import websocket

# How long the browser may take for anything.
PATIENCE = 30


class Gone(AssertionError):
    """The document that was asked has made room for the next."""


class Browser:
    """One Chromium with a profile of its own; `close` ends it with all its processes."""

    def __init__(self, program):
        self.profile = tempfile.mkdtemp(prefix="trilith-web-")
        command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                   "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
                   "--remote-debugging-port=0", f"--user-data-dir={self.profile}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                        start_new_session=True)
        address = None
        for line in self.process.stderr:
            found = re.search(r"DevTools listening on (ws://\S+)", line)
            if found:
                address = found.group(1)
                break
        assert address, "Chromium did not say where it listens"
        self.socket = websocket.create_connection(address, timeout=PATIENCE, suppress_origin=True)
        self.number = 0
        self.pages = {}

    def call(self, method, session=None, **params):
        """Calls a method and returns its result; events that come meanwhile go to their pages."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        self.socket.send(json.dumps(message))
        own, end = self.number, time.monotonic() + PATIENCE
        while time.monotonic() < end:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == own:
                if "error" in answer:
                    gone = any(word in answer["error"]["message"] for word in ("navigated", "context"))
                    raise (Gone if gone else AssertionError)(f"{method}: {answer['error']}")
                return answer["result"]
            self.heard(answer)
        raise AssertionError(f"{method} was not answered")

    def heard(self, event):
        page = self.pages.get(event.get("sessionId"))
        if page:
            page.heard(event["method"], event["params"])

    def listen(self, seconds):
        """Lets pages do what they do for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                self.heard(json.loads(self.socket.recv()))
            except websocket.WebSocketTimeoutException:
                break
        self.socket.settimeout(PATIENCE)

    def open(self, url, width, height, dark=False):
        return Page(self, url, width, height, dark)

    def close(self):
        self.socket.close()
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)


class Page:
    """A tab."""

    def __init__(self, browser, url, width, height, dark):
        self.browser = browser
        self.problems = []
        self.asked = []
        context = browser.call("Target.createBrowserContext")["browserContextId"]
        self.target = browser.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        browser.pages[self.session] = self
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        permissions = ["clipboardReadWrite", "clipboardSanitizedWrite"]
        browser.call("Browser.grantPermissions", permissions=permissions, browserContextId=context)
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        self.size(width, height)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.go(url)

    def call(self, method, **params):
        return self.browser.call(method, self.session, **params)

    def size(self, width, height):
        self.width = width
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)

    def go(self, url):
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'", f"{url} to load")

    def heard(self, method, params):
        if method == "Runtime.exceptionThrown":
            self.problems.append(f"exception: {params['exceptionDetails']}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            said = " ".join(str(own.get("value", own.get("description"))) for own in params["args"])
            self.problems.append(f"console: {said}")
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(f"log: {params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])
        elif method == "Network.loadingFailed" and not params.get("canceled"):
            self.problems.append(f"request failed: {params['errorText']}")
        elif method == "Network.responseReceived" and params["response"]["status"] >= 400:
            self.problems.append(f"{params['response']['status']} of {params['response']['url']}")

    def run(self, script):
        """The value of an expression, awaited where it is a promise; what it may do counts as done by a person."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in result, f"{script}: {result['exceptionDetails']}"
        return result["result"].get("value")

    def until(self, script, what, seconds=PATIENCE):
        def holds():
            try:
                return self.run(script)
            except Gone:
                return False

        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"waited {seconds} s for {what}; the page says:\n{self.text()}"
            self.browser.listen(0.2)

    def text(self):
        return self.run("document.body ? document.body.innerText : ''")

    def shot(self, path):
        """A picture of the whole page."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": self.width, "height": size["height"], "scale": 1}
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(picture))

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)
        self.browser.pages.pop(self.session)

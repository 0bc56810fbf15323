"""A real Chromium, driven over the pipe of its DevTools protocol, so that no driver is needed.

https://chromedevtools.github.io/devtools-protocol/; messages are JSON that ends in a NUL byte.
"""

import base64
import fcntl
import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_PATIENCE_S = 60
_FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # containers run tests as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
)
_LAUNCH = """
import os, sys
commands, events, *command = sys.argv[1:]
os.dup2(int(commands), 3)  # the protocol's two ends, by convention
os.dup2(int(events), 4)
os.execv(command[0], command)
"""
_COMPLAINTS = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")


def find_chromium() -> str | None:
    """Where a Chromium is, or None: ``CHROMIUM`` names one, else the usual names are tried."""
    names = (os.environ["CHROMIUM"],) if "CHROMIUM" in os.environ else _NAMES
    return next((path for name in names if (path := shutil.which(name))), None)


class Chromium:
    """A running browser."""

    def __init__(self, commands: int, events: int) -> None:
        self._commands, self._events = commands, events
        self._selector = selectors.DefaultSelector()
        self._selector.register(events, selectors.EVENT_READ)
        self._buffer = b""
        self._last = 0
        self.seen: list[dict[str, Any]] = []

    def call(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        """Ask for something and wait for the answer."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._last:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def wait_for(self, event: str, session: str) -> None:
        """Wait for an event of a session, unless it has happened."""
        while not any(
            one["method"] == event and one.get("sessionId") == session for one in self.seen
        ):
            self._next()

    def _next(self) -> dict[str, Any]:
        """Read one message; keep it if it is an event."""
        while b"\0" not in self._buffer:
            assert self._selector.select(_PATIENCE_S), "Chromium went quiet"
            part = os.read(self._events, 1 << 20)
            assert part, "Chromium went away"
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        if "method" in message:
            self.seen.append(message)
        return message


@dataclass(frozen=True)
class Page:
    """One open page.

    Attributes:
        browser: The browser it is open in.
        session: Its session of the protocol.
        url: What was opened.
    """

    browser: Chromium
    session: str
    url: str

    def run(self, script: str) -> Any:
        """Evaluate an expression and give its value."""
        answer = self.browser.call(
            "Runtime.evaluate", self.session, expression=script, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def complaints(self) -> list[str]:
        """Everything that stands on the console."""
        return [
            json.dumps(one["params"])
            for one in self.browser.seen
            if one.get("sessionId") == self.session and one["method"] in _COMPLAINTS
        ]

    def requests(self) -> list[str]:
        """Addresses that were asked for, besides the page itself."""
        asked = [
            one["params"]["request"]["url"]
            for one in self.browser.seen
            if one.get("sessionId") == self.session and one["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in asked if url != self.url and not url.startswith("data:")]

    def resize(self, width: int, height: int = 900) -> None:
        """Give the page another width, in CSS pixels."""
        self.browser.call(
            "Emulation.setDeviceMetricsOverride",
            self.session,
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def emulate(self, *, scheme: str = "light", media: str = "") -> None:
        """Show the page as under another colour scheme or medium."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.browser.call(
            "Emulation.setEmulatedMedia", self.session, media=media, features=features
        )

    def screenshot(self, path: Path) -> None:
        """Write the whole page as a PNG file."""
        answer = self.browser.call(
            "Page.captureScreenshot", self.session, format="png", captureBeyondViewport=True
        )
        path.write_bytes(base64.b64decode(answer["data"]))

    def print(self, path: Path) -> None:
        """Write the page as a PDF file, with the paper that its own styles ask for."""
        answer = self.browser.call("Page.printToPDF", self.session, preferCSSPageSize=True)
        path.write_bytes(base64.b64decode(answer["data"]))


@contextmanager
def running_chromium(binary: str) -> Iterator[Chromium]:
    """Start a browser with a profile of its own, and end it."""
    to_browser, from_us = _high_pipe()
    to_us, from_browser = _high_pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [binary, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, str(to_browser), str(from_browser), *command],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        browser = Chromium(from_us, to_us)
        try:
            yield browser
        finally:
            if process.poll() is None:
                browser.call("Browser.close")
            try:
                process.wait(_PATIENCE_S)
            finally:
                process.kill()
                os.close(from_us)
                os.close(to_us)


def _high_pipe() -> tuple[int, int]:
    """Make a pipe whose ends are not among the file descriptors that the launcher fills."""
    ends = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return high[0], high[1]


def open_page(browser: Chromium, path: Path, *, width: int = 1280) -> Page:
    """Open a file and wait until it is loaded."""
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Runtime", "Log", "Network"):
        browser.call(f"{domain}.enable", session)
    page = Page(browser, session, path.resolve().as_uri())
    page.resize(width)
    browser.call("Page.navigate", session, url=page.url)
    browser.wait_for("Page.loadEventFired", session)
    return page

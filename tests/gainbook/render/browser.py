"""A headless Chromium, driven through its DevTools protocol; its network can be switched off."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic",
    "--disable-background-networking", "--remote-debugging-port=0", "--remote-allow-origins=*",
)  # fmt: skip


def chromium() -> str | None:
    """The program: $CHROMIUM, or the first of `NAMES` that is installed."""
    found = [os.environ.get("CHROMIUM"), *map(shutil.which, NAMES)]
    return next((one for one in found if one), None)


class Browser:
    """One page of a headless Chromium with a profile in `folder`; a context manager."""

    def __init__(self, folder: Path, width: int = 1280, height: int = 900) -> None:
        program = chromium()
        assert program is not None
        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port = self._until(lambda: _port(folder / "DevToolsActivePort"))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=30) as answer:
            pages = [page for page in json.load(answer) if page["type"] == "page"]
        self._socket = websocket.create_connection(pages[0]["webSocketDebuggerUrl"], timeout=60)
        self._number = 0
        self.messages: list[dict[str, Any]] = []
        """Events that arrived, with those of the page's console."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        self.call("Emulation.setTouchEmulationEnabled", enabled=True)
        self.call(
            "Network.emulateNetworkConditions",
            offline=True, latency=0, downloadThroughput=0, uploadThroughput=0,
        )  # fmt: skip

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: Any) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(30)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a DevTools method."""
        self._number += 1
        request = {"id": self._number, "method": method, "params": parameters}
        self._socket.send(json.dumps(request))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._number:
                assert "error" not in message, message
                return dict(message["result"])
            self.messages.append(message)

    def open(self, path: Path) -> None:
        """Open a file."""
        self.call("Page.navigate", url=path.as_uri())
        self.wait("document.readyState === 'complete'")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        found = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str) -> Any:
        """The value of an expression once it is true."""
        return self._until(lambda: self.run(expression), expression)

    def mouse(self, kind: str, x: float, y: float) -> None:
        """A mouse event of the left button: mousePressed, mouseMoved, mouseReleased."""
        where = {"x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=kind, **where)

    def touch(self, kind: str, *places: tuple[float, float]) -> None:
        """A touch event: touchStart, touchMove, touchEnd (without a place)."""
        points = [{"x": x, "y": y} for x, y in places]
        self.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    def key(self, kind: str, key: str) -> None:
        """A key event: keyDown or keyUp."""
        self.call("Input.dispatchKeyEvent", type=kind, key=key)

    def errors(self) -> list[str]:
        """What the page reported as an error."""
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(m)[:500] for m in self.messages if m.get("method") in kinds]

    def _until(self, look: Any, what: str = "the browser's port", seconds: float = 60) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := look():
                return found
            time.sleep(0.05)
        raise AssertionError(f"waited {seconds} s for {what}")


def _port(file: Path) -> str | None:
    words = file.read_text().split() if file.is_file() else []
    return words[0] if words else None

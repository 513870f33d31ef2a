"""Drive a headless Chromium by its DevTools protocol, through a pipe.

Scripts are switched off, and no host but this machine can be reached.
"""

import asyncio
import base64
import fcntl
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # the suite may be run as root, where Chromium has none
    "--disable-gpu",
    "--disable-lcd-text",  # otherwise letters have coloured fringes, made for one kind of screen
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
)
WITH_PIPES = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])"""
MESSAGE_LIMIT = 256 * 1024 * 1024  # bytes; a screenshot of 3840 pixels is one message
TIMEOUT = 60.0  # seconds for a command or an event

Json = dict[str, Any]


class Browser:
    """A connection to Chromium: commands, their replies, and events."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.ids = count(1)
        self.replies: dict[int, asyncio.Future[Json]] = {}
        self.events: list[Json] = []
        self.event_arrived = asyncio.Condition()

    async def listen(self) -> None:
        """Hand replies to their commands and record events, until cancelled."""
        while True:
            message = json.loads((await self.reader.readuntil(b"\0"))[:-1])
            if "id" in message:
                self.replies.pop(message["id"]).set_result(message)
                continue
            async with self.event_arrived:
                self.events.append(message)
                self.event_arrived.notify_all()

    async def send(self, method: str, session: str | None = None, **parameters: Any) -> Json:
        """Send a command and return its result; fail if Chromium replies with an error."""
        number = next(self.ids)
        message: Json = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        future = self.replies[number] = asyncio.get_running_loop().create_future()
        self.writer.write(json.dumps(message).encode() + b"\0")
        reply = await asyncio.wait_for(future, TIMEOUT)
        assert "error" not in reply, f"{method}: {reply}"
        result: Json = reply["result"]
        return result

    async def wait_for_event(self, method: str, session: str, since: int) -> Json:
        """Return the first event of this kind that is not among the first `since` events."""

        def matching_event() -> Json | None:
            matching = (
                event
                for event in self.events[since:]
                if event["method"] == method and event.get("sessionId") == session
            )
            return next(matching, None)

        async with asyncio.timeout(TIMEOUT), self.event_arrived:
            await self.event_arrived.wait_for(lambda: matching_event() is not None)
        event = matching_event()
        assert event
        return event

    async def page(self, width: int, height: int, *, dark: bool = False) -> "Page":
        """Open an empty page of this size, in CSS pixels."""
        target = await self.send("Target.createTarget", url="about:blank")
        attached = await self.send(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        page = Page(self, attached["sessionId"])
        for domain in ("Page", "Network", "DOM"):
            await page.send(f"{domain}.enable")
        await page.send("Emulation.setScriptExecutionDisabled", value=True)
        await page.scheme("dark" if dark else "light")
        await page.resize(width, height)
        return page


class Page:
    """A page of the browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.browser = browser
        self.session = session

    async def send(self, method: str, **parameters: Any) -> Json:
        """Send a command to this page and return its result."""
        return await self.browser.send(method, self.session, **parameters)

    async def resize(self, width: int, height: int) -> None:
        """Give the window another size, in CSS pixels; below a width of 600 it is a phone's."""
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    async def scheme(self, name: str) -> None:
        """Set the colour scheme that the user prefers, "light" or "dark"."""
        feature = {"name": "prefers-color-scheme", "value": name}
        await self.send("Emulation.setEmulatedMedia", features=[feature])

    async def press(self, key: str) -> None:
        """Press and release a key, "Tab" or "Enter"."""
        code = {"Tab": 9, "Enter": 13}[key]
        event: Json = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        if key == "Enter":
            event["text"] = "\r"
        await self.send("Input.dispatchKeyEvent", type="keyDown", **event)
        await self.send("Input.dispatchKeyEvent", type="keyUp", **event)

    async def visit(self, url: str, *, password: str | None = None) -> list[str]:
        """Load a page and wait for its load event; return every URL that it requested."""
        since = len(self.browser.events)
        if password is not None:
            await self.send("Fetch.enable", handleAuthRequests=True)
        loading = asyncio.create_task(self.send("Page.navigate", url=url))
        if password is not None:
            await self.log_in(password, since)
        await loading
        await self.browser.wait_for_event("Page.loadEventFired", self.session, since)
        return [
            event["params"]["request"]["url"]
            for event in self.browser.events[since:]
            if event["method"] == "Network.requestWillBeSent"
        ]

    async def log_in(self, password: str, since: int) -> None:
        """Give the password when the browser asks for credentials."""
        event = await self.browser.wait_for_event("Fetch.requestPaused", self.session, since)
        request = {"requestId": event["params"]["requestId"]}
        await self.send("Fetch.continueRequest", **request)
        event = await self.browser.wait_for_event("Fetch.authRequired", self.session, since)
        credentials = {"response": "ProvideCredentials", "username": "me", "password": password}
        request = {"requestId": event["params"]["requestId"]}
        await self.send("Fetch.continueWithAuth", **request, authChallengeResponse=credentials)

    async def html(self) -> str:
        """Return the document as it is now, with what the user has opened or closed."""
        root = (await self.send("DOM.getDocument"))["root"]["nodeId"]
        return str((await self.send("DOM.getOuterHTML", nodeId=root))["outerHTML"])

    async def size(self) -> tuple[int, int]:
        """Return the width and height of the whole document, in CSS pixels."""
        size = (await self.send("Page.getLayoutMetrics"))["cssContentSize"]
        return int(size["width"]), int(size["height"])

    async def texts(self) -> list[tuple[str, list[float]]]:
        """Return every text in the layout with its box: left, top, width, height."""
        snapshot = await self.send("DOMSnapshot.captureSnapshot", computedStyles=[])
        strings, layout = snapshot["strings"], snapshot["documents"][0]["layout"]
        return [
            (strings[text], box)
            for text, box in zip(layout["text"], layout["bounds"], strict=True)
            if text >= 0
        ]

    async def picture(self, *, whole: bool = True) -> bytes:
        """Return a PNG of the whole document, or of the window only."""
        shot = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run Chromium with a temporary profile."""
    assert CHROMIUM
    (chromium_in, ours_out), (ours_in, chromium_out) = os.pipe(), os.pipe()
    # Chromium reads from 3 and writes to 4; a pipe that had one of these numbers by chance would
    # be overwritten before it is copied, so both get numbers from 10 up
    pipes = [fcntl.fcntl(pipe, fcntl.F_DUPFD, 10) for pipe in (chromium_in, chromium_out)]
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            WITH_PIPES,
            *map(str, pipes),
            CHROMIUM,
            *OPTIONS,
            f"--user-data-dir={profile}",
            pass_fds=pipes,
            env={**os.environ, "HOME": profile},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        for pipe in (chromium_in, chromium_out, *pipes):
            os.close(pipe)
        reader = asyncio.StreamReader(limit=MESSAGE_LIMIT)
        read_transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours_in, "rb")
        )
        write_transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(ours_out, "wb")
        )
        browser = Browser(reader, asyncio.StreamWriter(write_transport, protocol, reader, loop))
        listening = asyncio.create_task(browser.listen())
        try:
            yield browser
        finally:
            listening.cancel()
            write_transport.close()
            read_transport.close()
            process.terminate()
            await process.wait()

"""A real Chromium without a window, told what to do through a pipe (its DevTools protocol).

It runs no scripts, and reaches no host but this machine.
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
ALONE = (
    "--headless=new",
    "--no-sandbox",  # the suite may be run as root, where Chromium has none
    "--disable-gpu",
    "--disable-lcd-text",  # letters without coloured fringes, whatever screen the picture is for
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
LIMIT = 256 * 1024 * 1024  # bytes of one message: a wall's picture is large
PATIENCE = 60.0  # seconds

Json = dict[str, Any]


class Browser:
    """A conversation with Chromium."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.numbers = count(1)
        self.answers: dict[int, asyncio.Future[Json]] = {}
        self.heard: list[Json] = []
        self.news = asyncio.Condition()

    async def listen(self) -> None:
        """Take in what it says, for ever."""
        while True:
            said = json.loads((await self.reader.readuntil(b"\0"))[:-1])
            if "id" in said:
                self.answers.pop(said["id"]).set_result(said)
                continue
            async with self.news:
                self.heard.append(said)
                self.news.notify_all()

    async def tell(self, method: str, session: str | None = None, **parameters: Any) -> Json:
        """Do something; what comes of it."""
        number = next(self.numbers)
        message: Json = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        answer = self.answers[number] = asyncio.get_running_loop().create_future()
        self.writer.write(json.dumps(message).encode() + b"\0")
        said = await asyncio.wait_for(answer, PATIENCE)
        assert "error" not in said, f"{method}: {said}"
        result: Json = said["result"]
        return result

    async def hear(self, method: str, session: str, since: int) -> Json:
        """The first event of a kind after so many."""

        def found() -> Json | None:
            wanted = (
                said
                for said in self.heard[since:]
                if said["method"] == method and said.get("sessionId") == session
            )
            return next(wanted, None)

        async with asyncio.timeout(PATIENCE), self.news:
            await self.news.wait_for(lambda: found() is not None)
        event = found()
        assert event
        return event

    async def page(self, width: int, height: int, *, dark: bool = False) -> "Page":
        """An empty page of this size."""
        target = await self.tell("Target.createTarget", url="about:blank")
        attached = await self.tell(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        page = Page(self, attached["sessionId"])
        for domain in ("Page", "Network", "DOM"):
            await page.tell(f"{domain}.enable")
        await page.tell("Emulation.setScriptExecutionDisabled", value=True)
        await page.scheme("dark" if dark else "light")
        await page.resize(width, height)
        return page


class Page:
    """One of its pages."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.browser = browser
        self.session = session

    async def tell(self, method: str, **parameters: Any) -> Json:
        return await self.browser.tell(method, self.session, **parameters)

    async def resize(self, width: int, height: int) -> None:
        await self.tell(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    async def scheme(self, name: str) -> None:
        """Light or dark, as its user likes it."""
        liked = {"name": "prefers-color-scheme", "value": name}
        await self.tell("Emulation.setEmulatedMedia", features=[liked])

    async def press(self, key: str) -> None:
        """Press a key, and let it go."""
        code = {"Tab": 9, "Enter": 13}[key]
        given: Json = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        if key == "Enter":
            given["text"] = "\r"
        await self.tell("Input.dispatchKeyEvent", type="keyDown", **given)
        await self.tell("Input.dispatchKeyEvent", type="keyUp", **given)

    async def visit(self, url: str, *, password: str | None = None) -> list[str]:
        """Load a page, and wait until it is there; return all URLs that it asked for."""
        since = len(self.browser.heard)
        if password is not None:
            await self.tell("Fetch.enable", handleAuthRequests=True)
        loading = asyncio.create_task(self.tell("Page.navigate", url=url))
        if password is not None:
            await self.log_in(password, since)
        await loading
        await self.browser.hear("Page.loadEventFired", self.session, since)
        return [
            said["params"]["request"]["url"]
            for said in self.browser.heard[since:]
            if said["method"] == "Network.requestWillBeSent"
        ]

    async def log_in(self, password: str, since: int) -> None:
        """Type the password where the browser asks for one."""
        asked = await self.browser.hear("Fetch.requestPaused", self.session, since)
        going_on = {"requestId": asked["params"]["requestId"]}
        await self.tell("Fetch.continueRequest", **going_on)
        asked = await self.browser.hear("Fetch.authRequired", self.session, since)
        answer = {"response": "ProvideCredentials", "username": "me", "password": password}
        going_on = {"requestId": asked["params"]["requestId"]}
        await self.tell("Fetch.continueWithAuth", **going_on, authChallengeResponse=answer)

    async def html(self) -> str:
        """The document as it stands."""
        root = (await self.tell("DOM.getDocument"))["root"]["nodeId"]
        return str((await self.tell("DOM.getOuterHTML", nodeId=root))["outerHTML"])

    async def size(self) -> tuple[int, int]:
        """Width and height of all that there is to see, in pixels of CSS."""
        found = (await self.tell("Page.getLayoutMetrics"))["cssContentSize"]
        return int(found["width"]), int(found["height"])

    async def texts(self) -> list[tuple[str, list[float]]]:
        """Every text that is laid out, and its box: left, top, width, height."""
        seen = await self.tell("DOMSnapshot.captureSnapshot", computedStyles=[])
        strings, layout = seen["strings"], seen["documents"][0]["layout"]
        return [
            (strings[text], box)
            for text, box in zip(layout["text"], layout["bounds"], strict=True)
            if text >= 0
        ]

    async def picture(self, *, whole: bool = True) -> bytes:
        """A PNG of the window, or of all that there is to see."""
        shot = await self.tell("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Chromium, with a profile of its own that is thrown away."""
    assert CHROMIUM
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    # it reads commands from 3 and answers on 4; a number beyond is in nobody's way
    given = [fcntl.fcntl(pipe, fcntl.F_DUPFD, 10) for pipe in (theirs_in, theirs_out)]
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            WITH_PIPES,
            *map(str, given),
            CHROMIUM,
            *ALONE,
            f"--user-data-dir={profile}",
            pass_fds=given,
            env={**os.environ, "HOME": profile},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        for pipe in (theirs_in, theirs_out, *given):
            os.close(pipe)
        reader = asyncio.StreamReader(limit=LIMIT)
        ears, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours_in, "rb")
        )
        mouth, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(ours_out, "wb")
        )
        browser = Browser(reader, asyncio.StreamWriter(mouth, protocol, reader, loop))
        listening = asyncio.create_task(browser.listen())
        try:
            yield browser
        finally:
            listening.cancel()
            mouth.close()
            ears.close()
            process.terminate()
            await process.wait()

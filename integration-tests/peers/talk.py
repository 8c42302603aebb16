"""What the Python peers share: the commands they take, the conversation they hold, and the content they send.

A peer is a process that is started as `PEER DIRECTORY`, where DIRECTORY holds root.pem, server.pem and server-key.pem. It prints one
JSON object a line, and takes one a line:

    prints  {"listening": {"ws": PORT, "wss": PORT}}
    takes   {"id": N, "do": "serve", "script": S}            the next connection follows S
    prints  {"id": N, "ready": true}
    takes   {"id": N, "do": "connect", "url": U, "script": S}
    prints  {"id": N, "at": TIME, "event": TEXT}, {"id": N, "progress": BYTES}, and in the end {"id": N, "result": {...}}

A script has `turn` (who closes first: `first` is this side, `second` the other, `both` each without waiting), `send` (bytes), `echo` (send back
what comes, instead), `hear` (first wait for the other's first bytes), `flood` (send until `until-heard` or `until-end`, and only then the bytes
of `send`), `code` and `reason` of the Close. The program `wspeer` takes the same on its command line.
"""

import asyncio
import json
import ssl
import sys
import time

PIECE = 64 * 1024
STEP = 512 * 1024
PERIOD = 65_537


def _content():
    """The content of integration-tests/src/content.rs: xorshift64, of which the top byte counts."""
    state, mask, period = 0x9E37_79B9_7F4A_7C15, (1 << 64) - 1, bytearray()
    for _ in range(PERIOD):
        state ^= (state << 13) & mask
        state ^= state >> 7
        state ^= (state << 17) & mask
        period.append(state >> 56)
    return bytes(period) + bytes(period)


_CONTENT = _content()


def content(offset, count):
    start, pieces = offset % PERIOD, []
    while count:
        piece = _CONTENT[start:start + min(count, PERIOD)]
        pieces.append(piece)
        start, count = (start + len(piece)) % PERIOD, count - len(piece)
    return b"".join(pieces)


def say(line):
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


class Talk:
    """One conversation. `end` is the library's connection behind four calls: `send`, `receive`, `close`, `ended`."""

    def __init__(self, number, script, end):
        self.number, self.script, self.end = number, script, end
        self.sent = self.maybe = self.received = self.moved = 0
        self.wrong = self.error = self.closing = None
        self.heard, self.over = asyncio.Event(), asyncio.Event()

    def event(self, text):
        say({"id": self.number, "at": time.time(), "event": text})

    def move(self, count):
        before, self.moved = self.moved, self.moved + count
        if before // STEP != self.moved // STEP:
            say({"id": self.number, "progress": self.moved})

    async def hold(self):
        self.event("open")
        reading = asyncio.create_task(self.read())
        await self.write()
        await reading
        await self.end.ended()
        ended = time.monotonic()
        code, reason = self.end.close_code()
        self.event(f"over: close code {code} {reason!r}")
        say({"id": self.number, "result": {
            "sent": self.sent, "maybe": self.maybe, "received": self.received, "wrong": self.wrong, "error": self.error,
            "code": code, "reason": reason, "closing_ms": round(1000 * (ended - (self.closing or ended))),
        }})

    async def read(self):
        while (data := await self.end.receive()) is not None:
            if not self.heard.is_set():
                self.event("first bytes read")
                self.heard.set()
            if self.wrong is None and data != content(self.received, len(data)):
                self.wrong = f"the bytes between {self.received} and {self.received + len(data)} are wrong"
            self.received += len(data)
            self.move(len(data))
            if self.script.get("echo"):
                await self.send(data)
        self.event(f"read {self.received} bytes, then the end")
        self.closing = self.closing or time.monotonic()
        self.over.set()
        self.heard.set()

    async def send(self, data):
        """Whether it was sent. What fails on an open connection may have been."""
        was_open = self.end.is_open()
        try:
            await self.end.send(data)
        except Exception as error:  # whatever a library calls a connection that is gone
            self.maybe += len(data) if was_open else 0
            self.event(f"sent {self.sent} bytes, then: {type(error).__name__}: {error}")
            return False
        self.sent += len(data)
        self.move(len(data))
        return True

    async def write(self):
        script = self.script
        if script.get("hear"):
            await self.heard.wait()
        if script.get("flood"):
            over = {"until-heard": self.heard, "until-end": self.over}[script["flood"]]
            while not over.is_set() and await self.send(content(self.sent, PIECE)):
                await asyncio.sleep(0)  # a send need not let others run
            self.event(f"flood over after {self.sent} bytes")
        left = script["send"]
        while left and not self.over.is_set() and await self.send(content(self.sent, min(left, PIECE))):
            left -= min(left, PIECE)
        if script["turn"] != "second":
            self.event(f"sent {self.sent} bytes, closing with {script['code']}")
            self.closing = time.monotonic()
            try:
                await self.end.close(script["code"], script["reason"])
            except Exception as error:
                self.error = f"close: {type(error).__name__}: {error}"


def contexts(directory):
    """What a server and a client need for TLS."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(f"{directory}/server.pem", f"{directory}/server-key.pem")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(f"{directory}/root.pem")
    return server, client


class Peer:
    """Takes the commands. The library's side of it is `listen(tls)`, which returns a port and hands each connection to `serve`,
    and `connect(url, tls)`, an async context manager with the connection."""

    def __init__(self):
        self.server_tls, self.client_tls = contexts(sys.argv[1])
        self.next = None

    async def serve(self, end):
        command, self.next = self.next, None
        await self.talk(command, end)

    async def talk(self, command, end):
        await Talk(command["id"], command["script"], end).hold()

    async def obey(self, command):
        if command["do"] == "serve":
            self.next = command
            say({"id": command["id"], "ready": True})
            return
        tls = self.client_tls if command["url"].startswith("wss:") else None
        try:
            async with self.connect(command["url"], tls) as end:
                await self.talk(command, end)
        except Exception as error:
            say({"id": command["id"], "failed": f"{type(error).__name__}: {error}"})

    async def run(self):
        say({"listening": {"ws": await self.listen(None), "wss": await self.listen(self.server_tls)}})
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        tasks = set()
        while line := await reader.readline():
            task = asyncio.create_task(self.obey(json.loads(line)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


def main(peer):
    asyncio.run(peer().run())

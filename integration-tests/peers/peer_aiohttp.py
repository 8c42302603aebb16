"""The Python library `aiohttp`."""

import asyncio
import contextlib

import aiohttp
from aiohttp import WSMsgType, web

from talk import Peer, main

# Its own limit is out of the way: who waits for it is found by the driver.
CLOSE_TIMEOUT = 600


class End:
    """`close` reads to the other's Close itself, and throws away what comes in front of it. A `receive` in another task must not stand beside it:
    on a server, `close` then drops the connection without waiting, and on a client the reader's next call closes with 1000."""

    def __init__(self, socket, serves):
        self.socket, self.serves = socket, serves
        self.reason, self.reading, self.closing = "", None, False

    def is_open(self):
        return not self.socket.closed

    async def send(self, data):
        await self.socket.send_bytes(data)

    async def receive(self):
        if self.closing:
            return None
        self.reading = asyncio.ensure_future(self.socket.receive())
        await asyncio.wait({self.reading})
        if self.reading.cancelled():
            return None
        message = self.reading.result()
        if message.type is WSMsgType.CLOSE:
            self.reason = message.extra
        return message.data if message.type is WSMsgType.BINARY else None

    async def close(self, code, reason):
        self.closing = True
        if self.serves and self.reading:
            self.reading.cancel()
            await asyncio.wait({self.reading})
        await self.socket.close(code=code, message=reason.encode())

    async def ended(self):
        """Its connection is closed when both Closes are through, or else was broken."""

    def close_code(self):
        return self.socket.close_code, self.reason


class Aiohttp(Peer):
    async def listen(self, tls):
        async def handler(request):
            socket = web.WebSocketResponse(timeout=CLOSE_TIMEOUT, compress=False, max_msg_size=0)
            await socket.prepare(request)
            await self.serve(End(socket, serves=True))
            return socket

        application = web.Application()
        application.router.add_get("/{path:.*}", handler)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        return runner.addresses[-1][1]

    @contextlib.asynccontextmanager
    async def connect(self, url, tls):
        timeout = aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT)
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(url, ssl=tls or True, timeout=timeout, max_msg_size=0) as socket:
                yield End(socket, serves=False)


main(Aiohttp)

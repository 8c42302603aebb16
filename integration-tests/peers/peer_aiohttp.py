"""The Python library `aiohttp`."""

import contextlib

import aiohttp
from aiohttp import WSMsgType, web

from talk import Peer, main

# Its own limit is out of the way: who waits for it is found by the driver.
CLOSE_TIMEOUT = 600


class End:
    def __init__(self, socket):
        self.socket, self.reason = socket, ""

    def is_open(self):
        return not self.socket.closed

    async def send(self, data):
        await self.socket.send_bytes(data)

    async def receive(self):
        message = await self.socket.receive()
        if message.type is WSMsgType.CLOSE:
            self.reason = message.extra
        return message.data if message.type is WSMsgType.BINARY else None

    async def close(self, code, reason):
        # Reads to the other's Close, and throws away what comes in front of it.
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
            await self.serve(End(socket))
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
                yield End(socket)


main(Aiohttp)

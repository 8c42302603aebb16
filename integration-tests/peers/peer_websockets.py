"""The Python library `websockets`, its asyncio side."""

import contextlib

import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from talk import Peer, main

# Its own limits are out of the way: who waits for them is found by the driver.
OPTIONS = {"compression": None, "max_size": None, "open_timeout": 600, "close_timeout": 600, "ping_interval": None}


class End:
    def __init__(self, connection):
        self.connection = connection

    def is_open(self):
        return self.connection.state is websockets.State.OPEN

    async def send(self, data):
        await self.connection.send(data)

    async def receive(self):
        with contextlib.suppress(websockets.ConnectionClosed):
            return await self.connection.recv()
        return None

    async def close(self, code, reason):
        # asyncio's transport fails so if it is aborted when it has closed already, and had output left then; websockets aborts it.
        with contextlib.suppress(AttributeError):
            await self.connection.close(code, reason)

    async def ended(self):
        await self.connection.wait_closed()

    def close_code(self):
        close = self.connection.protocol.close_rcvd
        return (close.code, close.reason) if close else (1006, "")


class Websockets(Peer):
    async def listen(self, tls):
        server = await serve(lambda connection: self.serve(End(connection)), "127.0.0.1", 0, ssl=tls, **OPTIONS)
        return server.sockets[0].getsockname()[1]

    @contextlib.asynccontextmanager
    async def connect(self, url, tls):
        # A loopback address needs no proxy, whatever the environment says.
        yield End(await connect(url, ssl=tls, proxy=None, **OPTIONS))


main(Websockets)

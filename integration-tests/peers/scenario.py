"""What a scenario is."""

from dataclasses import dataclass
from typing import Callable

# How long our `close` may take, in seconds: longer than the driver's patience, so that whoever waits for it hangs.
LINGER = 120


@dataclass
class Scenario:
    """Two ends, what lies between, what each does, and what must come of it. A script is told in talk.py; `judge` is given the
    result of the client and that of the server, and says what does not hold."""

    name: str
    client: str
    server: str
    scheme: str
    path: str
    client_script: dict
    server_script: dict
    judge: Callable[[dict, dict], list[str]]

    def server_tls(self):
        """A proxy ends our client's TLS; to our server it speaks TLS itself."""
        return self.scheme == "wss" and (self.path == "direct" or self.server == "ours")

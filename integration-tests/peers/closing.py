"""Closing: who closes first, whether the other is still sending, how much there is to send, and by which calls.

What must hold: every byte sent in front of its sender's Close arrives at an end that still reads, both ends learn the right codes, our
calls succeed, and nobody waits for a limit.
"""

from itertools import product

from paths import PATHS
from peers import PEERS
from scenario import LINGER, Scenario

SIZES = {"0": 0, "1K": 1024, "4M": 4 << 20}
# An application's code, so that an answer shows: RFC 6455 §7.4.2.
CODE, REASON = 3001, "done here"
# Those that throw away what comes once they have begun to close.
DEAF_AFTER_CLOSE = {"aiohttp"}
# Those that answer every Close with 1000 in place of its own code, which RFC 6455 §5.5.1 says only is typical.
ANSWERS_1000 = {"aiohttp"}


def scenarios():
    for peer, role, scheme, path in product(PEERS, ("client", "server"), ("ws", "wss"), PATHS):
        for first, busy, size, way, mode in product(
                ("ours", "theirs", "both"), ("quiet", "sending"), SIZES, ("half", "close"), ("blocking", "tasks")):
            if mode == "tasks" and path != "direct":
                continue
            ours, theirs = Side("ours", way=way, mode=mode), Side(peer)
            name = f"closing/{peer}/{role}/{scheme}/{path}/{first}/{busy}/{size}/{way}/{mode}"
            yield scenario(name, ours, theirs, role == "client", scheme, path, first, busy == "sending", SIZES[size])


def controls():
    """The same among themselves: what fails here is no fault of ours."""
    for client, server, scheme, path in product(PEERS, PEERS, ("ws", "wss"), PATHS):
        if client == server:
            continue
        for first, busy in product(("client", "server", "both"), ("quiet", "sending")):
            name = f"control/{client}/{server}/{scheme}/{path}/{first}/{busy}/4M"
            turn = {"client": "ours", "server": "theirs", "both": "both"}[first]
            yield scenario(name, Side(client), Side(server), True, scheme, path, turn, busy == "sending", SIZES["4M"])


class Side:
    """Who speaks, and what the script makes it do."""

    def __init__(self, name, way=None, mode=None):
        self.name, self.ours, self.way = name, name == "ours", way
        if self.ours:
            self.script = {"way": way, "mode": mode, "linger": LINGER}
            self.code = 1000
        else:
            self.script = {"code": CODE, "reason": REASON}
            self.code = CODE

    def reads_to_the_end(self):
        if self.script["turn"] == "second":
            return True
        return self.way == "half" if self.ours else self.name not in DEAF_AFTER_CLOSE


def scenario(name, one, other, one_is_client, scheme, path, first, busy, size):
    if first == "both":
        for side in (one, other):
            side.script |= {"turn": "both", "send": size}
            if busy:
                side.script["flood"] = "until-heard"
    else:
        closer, answerer = (one, other) if first == "ours" else (other, one)
        closer.script |= {"turn": "first", "send": size}
        answerer.script |= {"turn": "second", "send": 0}
        if busy:
            closer.script["hear"] = True
            answerer.script["flood"] = "until-end"
            if answerer.ours:  # the others cannot send once they have been told of the end
                answerer.script["send"] = size
        elif closer.way != "close":  # which does not read, so that an echo could block both
            answerer.script["echo"] = True

    def judge(of_one, of_other):
        return [*of(one, of_one, other, of_other), *of(other, of_other, one, of_one), *codes(one, of_one, other, of_other)]

    client, server = (one, other) if one_is_client else (other, one)
    return Scenario(
        name, client.name, server.name, scheme, path, client.script, server.script,
        lambda of_client, of_server: judge(of_client, of_server) if one_is_client else judge(of_server, of_client))


def of(side, result, other, of_other):
    """What does not hold of one side, and of what it was sent."""
    sent, maybe = of_other["sent"], of_other.get("maybe", 0)
    if side.reads_to_the_end() and not sent <= result["received"] <= sent + maybe:
        yield f"{other.name} sent {sent} bytes, and {result['received']} arrived at {side.name}"
    if result["received"] > sent + maybe:
        yield f"{side.name} received more than {other.name} sent: {result['received']}"
    if result["wrong"]:
        yield f"{side.name}: {result['wrong']}"
    if result["closing_ms"] is not None and result["closing_ms"] >= 1000 * LINGER:
        yield f"{side.name} took {result['closing_ms']} ms to close"
    if side.ours:
        yield from of_ours(side, result)
    elif result["error"]:
        yield f"{side.name}: {result['error']}"
    if (side.ours or side.script["turn"] == "first") and result["sent"] < side.script["send"]:
        yield f"{side.name} could send only {result['sent']} of {side.script['send']} bytes"


def of_ours(side, result):
    for word in ("opening", "close_write", "close"):
        if result[word] not in ("ok", None):
            yield f"{word}: {result[word]}"
    if result["close"] is None:
        yield "close was not called"
    if result["writing"]:
        yield f"write: {result['writing']}"
    reading = result["reading"]
    by_ourselves = side.way == "close" and side.script["turn"] != "second" and str(reading).startswith("Closed")
    if reading not in ("end", None) and not by_ourselves:
        yield f"reading ended with {reading}"


def codes(one, of_one, other, of_other):
    """Each side reports the code of the Close it received."""
    heard = (of_one["code"], of_other["code"])
    first = [side for side in (one, other) if side.script["turn"] == "first"]
    right = set()
    if one.script["turn"] == "both":
        right.add((other.code, one.code))
    # The one whose Close came first, perhaps although neither waited, hears its own code back.
    for closer, answerer in ((one, other), (other, one)):
        if first and closer not in first:
            continue
        for back in {closer.code} | ({1000} if answerer.name in ANSWERS_1000 else set()):
            right.add((back, closer.code) if closer is one else (closer.code, back))
    if heard not in right:
        yield f"close codes: {one.name} heard {heard[0]}, {other.name} {heard[1]}"

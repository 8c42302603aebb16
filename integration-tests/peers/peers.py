"""The peers: each a program in a file of its own; what it has to do is told in talk.py. To add one, add a line here."""

# `{python}` and `{modules}` are where `run` installs, `{here}` is this folder.
PEERS = {
    "websockets": ["{python}", "{here}/peer_websockets.py"],
    "aiohttp": ["{python}", "{here}/peer_aiohttp.py"],
    "node-ws": ["node", "{here}/peer_ws.mjs", "{modules}"],
}

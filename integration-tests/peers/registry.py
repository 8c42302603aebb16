"""All scenarios there are. To add a kind, write a file like closing.py and add a line here."""

import closing

# Each is a function that yields scenarios; their names begin with the kind.
KINDS = [
    closing.controls,
    closing.scenarios,
]


def everything():
    return [scenario for kind in KINDS for scenario in kind()]

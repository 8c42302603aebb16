"""The table of a run: a row for each peer, role, scheme and path, a column for each way to close."""

from collections import defaultdict


def group(name):
    """The first words of a name, up to the path."""
    return "/".join(name.split("/")[:5])


def markdown(outcomes):
    """One table for each kind. A cell says how many of its scenarios passed, of those that ran."""
    kinds = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for name, complaints in outcomes.items():
        words = name.split("/")
        kinds[words[0]][tuple(words[1:5])][", ".join(words[5:7])].append(complaints)
    pages = []
    for kind, rows in kinds.items():
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        heads = ["client", "server"] if kind == "control" else ["peer", "our role"]
        lines = [[*heads, "scheme", "path", *columns], ["---"] * (4 + len(columns))]
        lines += [[*row, *(cell(cells.get(column, [])) for column in columns)] for row, cells in rows.items()]
        pages.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
    return "\n\n".join(pages) + "\n"


def cell(complaints):
    ran = [one for one in complaints if one is not None]
    if not ran:
        return "–"
    passed = ran.count([])
    return f"{passed}" if passed == len(ran) else f"**{passed} of {len(ran)}**"

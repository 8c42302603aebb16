"""The table of a run: a row for each peer, role, scheme and path, a column for each way to close."""

import re
import shutil
import subprocess
from collections import defaultdict
from importlib import metadata

BEGIN, END = "<!-- the table of a run begins -->", "<!-- the table of a run ends -->"


def group(name):
    """The first words of a name, up to the path."""
    return "/".join(name.split("/")[:5])


def write(file, outcomes):
    """Into the place between two marks if the file has them, or else as the whole file."""
    text = f"{versions()}\n\n{markdown(outcomes)}"
    old = file.read_text() if file.exists() else ""
    if BEGIN in old and END in old:
        before, after = old.split(BEGIN)[0], old.split(END)[1]
        text = f"{before}{BEGIN}\n\n{text}\n{END}{after}"
    file.write_text(text)


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
    every = list(outcomes.values())
    passed, skipped = every.count([]), every.count(None)
    pages.append(f"{passed} passed, {len(every) - passed - skipped} failed, {skipped} skipped.")
    return "\n\n".join(pages) + "\n"


def cell(complaints):
    ran = [one for one in complaints if one is not None]
    if not ran:
        return "–"
    passed = ran.count([])
    return f"{passed}" if passed == len(ran) else f"**{passed} of {len(ran)}**"


def versions():
    """What was judged against."""
    programs = {"nginx": "-v", "haproxy": "-v", "node": "--version", "python3": "--version"}
    found = []
    for name, option in programs.items():
        if program := shutil.which(name) or shutil.which(name, path="/usr/sbin"):
            said = subprocess.run([program, option], capture_output=True, text=True, check=False)
            found.append(f"{name} {first_version(said.stdout + said.stderr)}")
    for library in ("websockets", "aiohttp"):
        try:
            found.append(f"{library} {metadata.version(library)}")
        except metadata.PackageNotFoundError:
            pass
    return ", ".join(found)


def first_version(text):
    match = re.search(r"\d+(\.\d+)+", text)
    return match[0] if match else "?"

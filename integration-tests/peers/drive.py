"""Runs the scenarios: called by `run`, which installs and builds what they need."""

import argparse
import queue
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

import table
from paths import PATHS
from peers import PEERS
from programs import Conversation, Foreign, Ours, Trouble, write_pem
from registry import everything

HERE = Path(__file__).parent


def options():
    parser = argparse.ArgumentParser(prog="run", description="Our channels against other people's WebSocket programs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="run only what has all of these in its name")
    parser.add_argument("--list", action="store_true", help="print the names of the scenarios, and run none")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write a table of the run, as Markdown")
    parser.add_argument("--jobs", type=int, default=3, help="conversations at a time (default: %(default)s)")
    parser.add_argument("--patience", type=float, default=30, metavar="SECONDS",
                        help="how long nothing may happen in a conversation (default: %(default)s)")
    parser.add_argument("--traces", type=int, default=20, metavar="N",
                        help="of how many failures to tell who did what when (default: %(default)s)")
    parser.add_argument("--on-hang", metavar="COMMAND",
                        help="run this, with the process numbers of both ends behind it, before a hang is killed")
    parser.add_argument("--binary", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--missing", action="append", default=[], metavar="NAME=REASON", help=argparse.SUPPRESS)
    return parser.parse_args()


class Run:
    def __init__(self, chosen):
        self.chosen = chosen
        self.certificates = chosen.directory / "certificates"
        write_pem(self.certificates)
        self.log = (chosen.directory / "log").open("w")
        self.lock, self.numbers = threading.Lock(), 0
        self.outcomes = {}  # name -> what does not hold, or None where it was skipped
        self.traced = 0
        self.missing = dict(entry.split("=", 1) for entry in chosen.missing)
        for name, path in PATHS.items():
            if reason := path.missing():
                self.missing.setdefault(name, reason)

    def command(self, peer):
        places = {"python": sys.executable, "modules": self.chosen.directory / "node", "here": HERE}
        return [word.format(**places) for word in PEERS[peer]]

    def skips(self, scenario):
        return [self.missing[name] for name in (scenario.client, scenario.server, scenario.path) if name in self.missing]

    def everything(self, scenarios):
        self.groups = defaultdict(list)
        todo = queue.SimpleQueue()
        for scenario in scenarios:
            self.groups[table.group(scenario.name)].append(scenario.name)
        for reason in sorted({reason for scenario in scenarios for reason in self.skips(scenario)}):
            print(f"skipped: {reason}", flush=True)
        for scenario in scenarios:
            if self.skips(scenario):
                self.note(scenario.name, None, 0)
            else:
                todo.put(scenario)
        paths = [path for name, path in PATHS.items() if name not in self.missing]
        started = []
        try:
            for path in paths:
                path.start(self.chosen.directory / path.name, self.certificates)
                started.append(path)
            workers = [threading.Thread(target=self.work, args=(todo,), daemon=True) for _ in range(self.chosen.jobs)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        finally:
            for path in started:
                path.stop()

    def work(self, todo):
        ends = {name: Foreign(name, self.command(name), self.certificates, self.log) for name in PEERS}
        ends["ours"] = Ours(self.chosen.binary, self.certificates, self.log)
        while True:
            try:
                scenario = todo.get_nowait()
            except queue.Empty:
                break
            began = time.monotonic()
            try:
                complaints, trace = self.converse(scenario, ends[scenario.client], ends[scenario.server])
            except Exception as error:
                complaints, trace = [f"a fault of the driver: {error!r}"], []
            self.note(scenario.name, complaints, time.monotonic() - began, trace)
        for end in ends.values():
            end.done(well=False)

    def converse(self, scenario, client, server):
        with self.lock:
            self.numbers += 1
            conversation = Conversation(self.numbers, self.chosen.patience)
        path, tls = PATHS[scenario.path], scenario.server_tls()
        results, well = [], False
        try:
            port = server.serve(conversation, tls, scenario.server_script)
            port, asked = path.way(scenario.scheme, tls, port)
            client.connect(conversation, scenario.scheme == "wss", port, asked, scenario.client_script)
            results = [end.result(conversation) for end in (client, server)]
            complaints, well = scenario.judge(*results), True
        except Trouble as trouble:
            complaints = [str(trouble)]
            if self.chosen.on_hang and complaints[0].startswith("HANG"):
                numbers = [str(end.program.process.pid) for end in (client, server) if end.program]
                subprocess.run(["sh", "-c", f"{self.chosen.on_hang} {' '.join(numbers)}"], check=False)
        for end in (client, server):
            end.done(well)
        trace = conversation.trace()
        for end, result in zip((client, server), results):
            trace.append(f"result of {end.name}: {result}")
        return complaints, trace

    def note(self, name, complaints, seconds, trace=()):
        with self.lock:
            self.outcomes[name] = complaints
            if complaints:
                print(f"FAILED {name} ({seconds:.1f} s)", flush=True)
                for complaint in complaints:
                    print(f"    {complaint}")
                self.traced += 1
                if self.traced <= self.chosen.traces:
                    print("\n".join(f"      {line}" for line in trace), flush=True)
            group = self.groups[table.group(name)]
            if all(name in self.outcomes for name in group):
                passed, failed, skipped = self.count(group)
                words = [f"{passed} passed"] + [f"{failed} failed"] * bool(failed) + [f"{skipped} skipped"] * bool(skipped)
                print(f"[{len(self.outcomes)}/{self.total()}] {table.group(name)}: {', '.join(words)}", flush=True)

    def total(self):
        return sum(len(group) for group in self.groups.values())

    def count(self, names):
        outcomes = [self.outcomes[name] for name in names]
        skipped = outcomes.count(None)
        passed = outcomes.count([])
        return passed, len(outcomes) - passed - skipped, skipped


def main():
    chosen = options()
    scenarios = [s for s in everything() if all(name in f"/{s.name}/" for name in chosen.names)]
    if chosen.list:
        print("\n".join(scenario.name for scenario in scenarios))
        return 0
    if not scenarios:
        print(f"no scenario has all of {chosen.names} in its name", file=sys.stderr)
        return 2
    began = time.monotonic()
    run = Run(chosen)
    run.everything(scenarios)
    if chosen.table:
        table.write(chosen.table, {scenario.name: run.outcomes[scenario.name] for scenario in scenarios})
    failed = [name for name, complaints in run.outcomes.items() if complaints]
    if failed:
        print("\nfailed:")
        for name in failed:
            print(f"    {name}: {run.outcomes[name][0]}")
    passed, failed, skipped = run.count(run.outcomes)
    print(f"{time.monotonic() - began:.0f} s")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


sys.exit(main())

"""The programs that converse. They tell in lines of JSON what happens, and are watched while they do."""

import base64
import json
import queue
import subprocess
import threading
import time
from pathlib import Path

HERE = Path(__file__).parent


class Trouble(Exception):
    """A conversation came to nothing, and why."""


class Program:
    """One process. Its lines go to the `sink` of the moment: a conversation's queue."""

    def __init__(self, name, command, sink, log):
        self.name, self.sink = name, sink
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            try:
                self.sink.put((self, json.loads(line)))
            except ValueError:
                self.sink.put((self, {"failed": f"it printed {line!r}"}))
        self.sink.put((self, None))

    def tell(self, line):
        try:
            self.process.stdin.write(json.dumps(line) + "\n")
            self.process.stdin.flush()
        except OSError:
            raise Trouble(f"{self.name} is gone") from None

    def kill(self):
        self.process.kill()
        self.process.wait()


class Conversation:
    """What two programs say of one conversation. Every line is progress; without any for `patience` seconds, it hangs."""

    def __init__(self, number, patience):
        self.number, self.patience, self.lines = number, patience, queue.Queue()
        self.said, self.events = {}, []

    def until(self, program, word):
        """What `program` says in a line with `word`, which may have come before."""
        while word not in self.said.setdefault(program, {}):
            try:
                speaker, line = self.lines.get(timeout=self.patience)
            except queue.Empty:
                raise Trouble(f"HANG: nothing happened for {self.patience:g} s, and {program.name} has no {word}") from None
            if line is None:
                if "result" not in self.said.get(speaker, {}):
                    status = speaker.process.wait()
                    raise Trouble(f"{speaker.name} ended with status {status} and no result")
            elif line.get("id", self.number) != self.number:
                pass  # of a conversation that was given up
            elif "event" in line:
                self.events.append((line["at"], speaker.name, line["event"]))
            elif "failed" in line:
                raise Trouble(f"{speaker.name} failed: {line['failed']}")
            else:
                self.said.setdefault(speaker, {}).update(line)
        return self.said[program][word]

    def trace(self):
        """Who did what when, in milliseconds from the first event."""
        events = sorted(self.events)
        return [f"{1000 * (at - events[0][0]):9.1f} ms  {who:<11} {what}" for at, who, what in events]


class Ours:
    """Our end: a process for each conversation."""

    name = "ours"

    def __init__(self, binary, certificates, log):
        self.binary, self.certificates, self.log, self.program = binary, certificates, log, None

    def _start(self, conversation, words, tls, script):
        words = [self.binary, *words]
        if tls:
            words += ["--tls", self.certificates]
        for key, value in script.items():
            words += [f"--{key}"] if value is True else [] if value is False else [f"--{key}", value]
        self.program = Program(self.name, words, conversation.lines, self.log)

    def serve(self, conversation, tls, script):
        self._start(conversation, ["serve"], tls, script)
        return conversation.until(self.program, "listening")

    def connect(self, conversation, tls, port, path, script):
        self._start(conversation, ["connect", "--to", f"127.0.0.1:{port}", "--path", path], tls, script)

    def result(self, conversation):
        return conversation.until(self.program, "result")

    def done(self, well):
        if self.program:
            self.program.kill()
            self.program = None


class Foreign:
    """A peer of other people's making: a process that lasts, unless a conversation comes to nothing."""

    def __init__(self, name, command, certificates, log):
        self.name, self.command, self.log, self.program, self.ports = name, [*command, certificates], log, None, None

    def _ready(self, conversation):
        if self.program is None:
            self.program = Program(self.name, self.command, conversation.lines, self.log)
            self.ports = conversation.until(self.program, "listening")
        self.program.sink = conversation.lines

    def serve(self, conversation, tls, script):
        self._ready(conversation)
        self.program.tell({"id": conversation.number, "do": "serve", "script": script})
        conversation.until(self.program, "ready")
        return self.ports["wss" if tls else "ws"]

    def connect(self, conversation, tls, port, path, script):
        self._ready(conversation)
        url = f"{'wss' if tls else 'ws'}://127.0.0.1:{port}{path}"
        self.program.tell({"id": conversation.number, "do": "connect", "url": url, "script": script})

    def result(self, conversation):
        return conversation.until(self.program, "result")

    def done(self, well):
        if not well and self.program:
            self.program.kill()
            self.program = None


def write_pem(directory):
    """The certificates that `wspeer certificates` has written, as others want them."""
    for name, label in (("root", "CERTIFICATE"), ("server", "CERTIFICATE"), ("server-key", "PRIVATE KEY")):
        text = base64.encodebytes((directory / f"{name}.der").read_bytes()).decode()
        (directory / f"{name}.pem").write_text(f"-----BEGIN {label}-----\n{text}-----END {label}-----\n")

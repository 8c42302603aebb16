// The Node library `ws`. What a peer is, and what it takes and prints, is told in talk.py.

import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [modules, directory] = process.argv.slice(2);
const { WebSocket, WebSocketServer } = createRequire(`${modules}/`)("ws");

const PIECE = 64 * 1024;
const STEP = 512 * 1024;
const PERIOD = 65537;
// Its own limits are out of the way: who waits for them is found by the driver.
const OPTIONS = { perMessageDeflate: false, maxPayload: 0, closeTimeout: 600_000 };

/** The content of integration-tests/src/content.rs: xorshift64, of which the top byte counts. */
const CONTENT = (() => {
  const period = Buffer.alloc(PERIOD);
  let state = 0x9e37_79b9_7f4a_7c15n;
  for (let at = 0; at < PERIOD; at++) {
    state ^= BigInt.asUintN(64, state << 13n);
    state ^= state >> 7n;
    state ^= BigInt.asUintN(64, state << 17n);
    period[at] = Number(state >> 56n);
  }
  return Buffer.concat([period, period]);
})();

function content(offset, count) {
  const pieces = [];
  for (let start = offset % PERIOD; count > 0; ) {
    const piece = CONTENT.subarray(start, start + Math.min(count, PERIOD));
    pieces.push(piece);
    start = (start + piece.length) % PERIOD;
    count -= piece.length;
  }
  return Buffer.concat(pieces);
}

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

/** Something that happens once, and can be waited for. */
class Event {
  happened = false;
  #tell;
  wait = new Promise((tell) => (this.#tell = tell));
  set() {
    this.happened = true;
    this.#tell();
  }
}

class Talk {
  sent = 0;
  received = 0;
  moved = 0;
  wrong = null;
  error = null;
  closing = null;
  heard = new Event();
  over = new Event();

  constructor(id, script, socket) {
    Object.assign(this, { id, script, socket });
    this.ended = new Promise((tell) => socket.on("close", (code, reason) => tell({ code, reason: reason.toString() })));
    socket.on("error", (error) => (this.error = String(error)));
    socket.on("message", (data) => this.read(data));
    this.ended.then(() => this.end());
  }

  event(event) {
    say({ id: this.id, at: Date.now() / 1000, event });
  }

  move(count) {
    const before = this.moved;
    this.moved += count;
    if (Math.floor(before / STEP) !== Math.floor(this.moved / STEP)) say({ id: this.id, progress: this.moved });
  }

  read(data) {
    if (!this.heard.happened) {
      this.event("first bytes read");
      this.heard.set();
    }
    if (this.wrong === null && !content(this.received, data.length).equals(data)) {
      this.wrong = `the bytes between ${this.received} and ${this.received + data.length} are wrong`;
    }
    this.received += data.length;
    this.move(data.length);
    // At once, for the library answers a Close as soon as it meets it.
    if (this.script.echo) this.send(data);
  }

  end() {
    this.event(`read ${this.received} bytes, then the end`);
    this.over.set();
    this.heard.set();
  }

  /** Whether it was sent; resolves when the system has taken it. */
  send(data) {
    if (this.socket.readyState !== WebSocket.OPEN) return Promise.resolve(false);
    this.sent += data.length;
    this.move(data.length);
    return new Promise((tell) => this.socket.send(data, () => tell(true)));
  }

  async write() {
    const { script } = this;
    if (script.hear) await this.heard.wait;
    if (script.flood) {
      const over = script.flood === "until-heard" ? this.heard : this.over;
      // A write that the system takes at once lets nobody else run.
      while (!over.happened && (await this.send(content(this.sent, PIECE)))) await new Promise(setImmediate);
      this.event(`flood over after ${this.sent} bytes`);
    }
    let left = script.send;
    while (left > 0 && (await this.send(content(this.sent, Math.min(left, PIECE))))) left -= Math.min(left, PIECE);
    if (script.turn !== "second") {
      this.event(`sent ${this.sent} bytes, closing with ${script.code}`);
      this.closing = performance.now();
      this.socket.close(script.code, script.reason);
    }
  }

  async hold() {
    this.event("open");
    // Data behind it in the same piece is in front of it here: messages and the Close are emitted in order.
    await this.write();
    const { code, reason } = await this.ended;
    this.event(`over: close code ${code} ${JSON.stringify(reason)}`);
    const { sent, received, wrong, error } = this;
    const closing_ms = this.closing === null ? 0 : Math.round(performance.now() - this.closing);
    say({ id: this.id, result: { sent, maybe: 0, received, wrong, error, code, reason, closing_ms } });
  }
}

let next = null;

function listen(server) {
  const sockets = new WebSocketServer({ server, ...OPTIONS });
  sockets.on("connection", (socket) => new Talk(next.id, next.script, socket).hold());
  return new Promise((tell) => server.listen(0, "127.0.0.1", () => tell(server.address().port)));
}

function connect({ id, url, script }) {
  const socket = new WebSocket(url, { ca: readFileSync(`${directory}/root.pem`), ...OPTIONS });
  const talk = new Talk(id, script, socket);
  let opened = false;
  socket.on("open", () => {
    opened = true;
    talk.hold();
  });
  socket.on("close", () => opened || say({ id, failed: String(talk.error) }));
}

const tls = { cert: readFileSync(`${directory}/server.pem`), key: readFileSync(`${directory}/server-key.pem`) };
say({ listening: { ws: await listen(http.createServer()), wss: await listen(https.createServer(tls)) } });
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  if (command.do === "connect") {
    connect(command);
  } else {
    next = command;
    say({ id: command.id, ready: true });
  }
}
process.exit(0);

// js-libp2p as its own documentation sets it up, and a tap on what its streams get.
import { ping } from "@libp2p/ping";
import { webRTCDirect } from "@libp2p/webrtc";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";

const FLAGS = ["FIN", "STOP_SENDING", "RESET", "FIN_ACK"];
const SPEED = "/defim/speed/1";
const UPLOAD = "/defim/upload/1";
const [BEGIN, RESUME, CHUNK, VERDICT] = [1, 2, 3, 4];
const PIECE = 64 * 1024;
const KEPT = 2_000;

const libp2p = await createLibp2p({
  transports: [webRTCDirect()],
  services: { ping: ping() },
  // A browser's libp2p dials no loopback address unless it is told to.
  connectionGater: { denyDialMultiaddr: () => false },
  connectionMonitor: { enabled: false },
});

const dial = (address, options) => libp2p.dial(multiaddr(address), options);

/** A stream, and beside it what its channel carried: the other side's flags, the largest message each way. */
async function open(address, protocol) {
  const stream = await (await dial(address)).newStream(protocol);
  const { channel } = stream;
  const seen = { flags: [], received: 0, sent: 0 };
  channel.addEventListener("message", ({ data }) => {
    const [length, tag, flag] = new Uint8Array(data);
    if (length === 2 && tag === 8) seen.flags.push(FLAGS[flag]);
    seen.received = Math.max(seen.received, data.byteLength);
  });
  const send = channel.send.bind(channel);
  channel.send = (bytes) => {
    seen.sent = Math.max(seen.sent, bytes.byteLength);
    send(bytes);
  };
  return { stream, seen, next: reader(stream) };
}

/** Gives the next `length` bytes; fewer when the stream has ended. */
function reader(stream) {
  const messages = stream[Symbol.asyncIterator]();
  let rest = new Uint8Array();
  return async (length) => {
    const parts = [];
    for (let missing = length; missing > 0; ) {
      if (rest.length === 0) {
        const { done, value } = await messages.next();
        if (done) break;
        rest = value.subarray();
      }
      parts.push(rest.subarray(0, missing));
      missing -= parts.at(-1).length;
      rest = rest.subarray(parts.at(-1).length);
    }
    return new Uint8Array(await new Blob(parts).arrayBuffer());
  };
}

async function write(stream, bytes) {
  for (let at = 0; at < bytes.length; at += PIECE) {
    if (!stream.send(bytes.subarray(at, at + PIECE))) await stream.onDrain();
  }
}

async function ended(stream, seen) {
  if (stream.status === "open") await new Promise((resolve) => stream.addEventListener("close", resolve));
  return { ...seen, status: stream.status };
}

/** The bytes that both ends of a measurement know, as `crates/net/src/speed.rs` makes them. */
function pattern(length) {
  let state = 0x9e3779b97f4a7c15n;
  const block = Uint8Array.from({ length: 65_521 }, () => {
    state ^= BigInt.asUintN(64, state << 13n);
    state ^= state >> 7n;
    state ^= BigInt.asUintN(64, state << 17n);
    return Number((state >> 40n) & 0xffn);
  });
  return Uint8Array.from({ length }, (_, at) => block[at % block.length] ^ Math.floor(at / block.length));
}

function request(direction, length) {
  const bytes = new DataView(new ArrayBuffer(9));
  bytes.setUint8(0, direction.charCodeAt(0));
  bytes.setBigUint64(1, BigInt(length));
  return new Uint8Array(bytes.buffer);
}

/** A frame of `crates/net/src/frame.rs`. */
function frame(kind, payload) {
  const head = new DataView(new ArrayBuffer(5));
  head.setUint32(0, payload.length);
  head.setUint8(4, kind);
  return Uint8Array.from([...new Uint8Array(head.buffer), ...payload]);
}

async function readFrame(next, kind) {
  const head = new DataView((await next(5)).buffer);
  if (head.getUint8(4) !== kind) throw new Error(`a frame of kind ${head.getUint8(4)} came, not of ${kind}`);
  return next(head.getUint32(0));
}

function varint(value) {
  return value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)];
}

globalThis.foreign = {
  /** Who answers there, and that it does. */
  async meet(address) {
    const { remotePeer } = await dial(address);
    await libp2p.services.ping.ping(remotePeer);
    return remotePeer.toString();
  },

  /** Why there is no connection, and what the browser's went through. */
  async refused(address) {
    const { RTCPeerConnection } = globalThis;
    const states = [];
    globalThis.RTCPeerConnection = class extends RTCPeerConnection {
      constructor(...args) {
        super(...args);
        this.addEventListener("connectionstatechange", () => states.push(this.connectionState));
      }
    };
    try {
      await dial(address);
      return { name: "none", states };
    } catch ({ name }) {
      return { name, states };
    } finally {
      globalThis.RTCPeerConnection = RTCPeerConnection;
    }
  },

  /** The node sends, and is the first to close. */
  async down(address, length) {
    const { stream, seen, next } = await open(address, SPEED);
    stream.send(request("d", length));
    // One more than there is: the end is part of the answer.
    const bytes = await next(length + 1);
    await stream.close();
    const expected = pattern(length);
    const equal = bytes.length === length && bytes.every((byte, at) => byte === expected[at]);
    return { equal, ...(await ended(stream, seen)) };
  },

  /** The page sends, and closes before the node has answered. `spoilt` is a byte that is changed. */
  async up(address, length, spoilt) {
    const { stream, seen, next } = await open(address, SPEED);
    const bytes = pattern(length);
    if (spoilt !== undefined) bytes[spoilt] ^= 1;
    const answer = next(2);
    stream.send(request("u", length));
    await write(stream, bytes);
    await stream.close();
    return { answer: new TextDecoder().decode(await answer), ...(await ended(stream, seen)) };
  },

  /** Random bytes as a report for a task; resolves to where the node lets it begin, and to its verdict. */
  async upload(address, task, length) {
    const { stream, seen, next } = await open(address, UPLOAD);
    const report = crypto.getRandomValues(new Uint8Array(length));
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", report));
    const id = crypto.getRandomValues(new Uint8Array(16));
    stream.send(frame(BEGIN, [...task, ...id, ...varint(length), ...digest]));
    const resume = await readFrame(next, RESUME);
    stream.send(frame(CHUNK, [...report]));
    const [code, , ...text] = await readFrame(next, VERDICT);
    await stream.close();
    return { offset: resume[0], code, text: new TextDecoder().decode(Uint8Array.from(text)), ...(await ended(stream, seen)) };
  },

  /** Whether the node keeps one more connection: one that it is about to drop serves no stream. */
  async another(address) {
    let connection;
    try {
      connection = await dial(address, { force: true });
      const stream = await connection.newStream(SPEED, { signal: AbortSignal.timeout(KEPT) });
      stream.abort(new Error("it was only a question"));
      return true;
    } catch (error) {
      connection?.abort(error);
      return false;
    }
  },

  /** Ends all connections. A stream whose owner does not read acknowledges nothing, and close() gives up. */
  hangUp: () => Promise.all(libp2p.getConnections().map((each) => each.close().catch((error) => each.abort(error)))),

  connections: () => libp2p.getConnections().length,
};

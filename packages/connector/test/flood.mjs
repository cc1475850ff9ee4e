/**
 * Plays the kernel from another process: node flood.mjs <tag> <in flight> <milliseconds>
 * Keeps requests in flight for that long; with 0 milliseconds it sends them once and leaves. Prints the replies it got.
 */
import { RawNetlinkSocket } from 'netlink';

const [tag, inFlight, milliseconds] = process.argv.slice(2).map(Number);
const socket = new RawNetlinkSocket(11, {
  messagePeeking: false,
  recvBufferSize: 4 << 20,
  sendBufferSize: 4 << 20,
});
const frame = Buffer.alloc(204);
frame.writeUInt32LE(tag, 36);
const request = () => socket.send(frame, { groups: 1 << 6 });

let replies = 0;
const endAt = performance.now() + milliseconds;
socket.on('message', () => {
  replies++;
  if (performance.now() < endAt) request();
});
for (let count = 0; count < inFlight; count++) request();
setTimeout(() => {
  console.log(replies);
  process.exit(0);
}, Math.max(milliseconds, 100) + 50);

/**
 * Plays the kernel from another process: node flood.mjs <tag> <in flight> <milliseconds>
 * Keeps requests in flight for that long; with 0 milliseconds it sends them once and leaves when all have left. Prints the replies it got.
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
let sent = 0;
const request = () =>
  socket.send(frame, { groups: 1 << 6 }, (error) => {
    if (error) throw error;
    sent++;
    if (milliseconds === 0 && sent === inFlight) setImmediate(leave);
  });

let replies = 0;
const leave = () => {
  console.log(replies);
  process.exit(0);
};
const endAt = performance.now() + milliseconds;
socket.on('message', () => {
  replies++;
  if (performance.now() < endAt) request();
});
for (let count = 0; count < inFlight; count++) request();
if (milliseconds > 0) setTimeout(leave, Math.max(milliseconds, 100) + 50);

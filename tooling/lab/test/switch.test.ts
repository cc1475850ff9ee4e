import { createSocket, type Socket } from 'node:dgram';
import { afterEach, describe, expect, it } from 'vitest';
import { FRAMES_WAITING_MAX, FrameSwitch } from '../src/switch.js';
import { kernelArgument, SwitchPort, TUNNEL_HEADER_BYTES, tunnelHeader } from '../src/switch-port.js';

const BROADCAST = 0xff;
/** Machine n's address is n repeated six times; what the frame carries tells frames apart. */
function frame(to: number, from: number, payload = 0): Uint8Array {
  const group = to === BROADCAST;
  // Even, so that the lowest bit of the first byte does not say "to many".
  const address = (node: number) => Array<number>(6).fill(node * 2);
  return Uint8Array.from([
    ...(group ? Array(6).fill(BROADCAST) : address(to)),
    ...address(from),
    8,
    0,
    payload,
  ]);
}

/** A switch with three machines, whose time and chance the test decides. */
function bench() {
  const sent: [port: number, payload: number][] = [];
  const waiting: { delayMs: number; action: () => void }[] = [];
  let chance = 0.5;
  const parts = {
    send: (port: number, bytes: Uint8Array) => void sent.push([port, bytes.at(-1)!]),
    later: (delayMs: number, action: () => void) => void waiting.push({ delayMs, action }),
    random: () => chance,
  };
  const frames = new FrameSwitch(parts);
  for (const port of [1, 2, 3]) frames.addPort(port);
  /** Every machine has spoken once. */
  const learn = () => {
    for (const port of [1, 2, 3]) frames.receive(port, frame(BROADCAST, port));
    sent.length = 0;
  };
  const take = () => sent.splice(0);
  return { frames, waiting, learn, take, draw: (value: number) => (chance = value) };
}

describe('the switch', () => {
  it('floods what it does not know, and sends what it knows to one port', () => {
    const { frames, take } = bench();
    frames.receive(1, frame(2, 1, 7));
    expect(take()).toEqual([
      [2, 7],
      [3, 7],
    ]);
    frames.receive(2, frame(1, 2, 8));
    expect(take()).toEqual([[1, 8]]);
    frames.receive(1, frame(2, 1, 9));
    expect(take()).toEqual([[2, 9]]);
    frames.receive(1, frame(BROADCAST, 1, 10));
    expect(take()).toEqual([
      [2, 10],
      [3, 10],
    ]);
  });

  it('ignores runts, ports that nobody has, and frames of a machine to itself', () => {
    const { frames, learn, take } = bench();
    learn();
    frames.receive(1, frame(2, 1).subarray(0, 13));
    frames.receive(9, frame(2, 9));
    frames.receive(1, frame(1, 1));
    expect(take()).toEqual([]);
  });

  it('stops everything from and to a machine that is cut off, and nothing else', () => {
    const { frames, learn, take } = bench();
    learn();
    const before = frames.stats();
    frames.cut(2);
    frames.receive(1, frame(2, 1));
    frames.receive(2, frame(3, 2));
    frames.receive(2, frame(BROADCAST, 2));
    expect(take()).toEqual([]);
    frames.receive(1, frame(BROADCAST, 1, 4));
    expect(take()).toEqual([[3, 4]]);
    expect(frames.stats()).toEqual({ ...before, forwarded: before.forwarded + 1, cut: before.cut + 5 });
    frames.heal(2);
    frames.receive(1, frame(2, 1, 5));
    expect(take()).toEqual([[2, 5]]);
  });

  it('finds a machine that spoke only while it was cut off', () => {
    const { frames, take } = bench();
    frames.cut(2);
    frames.receive(2, frame(BROADCAST, 2));
    frames.heal(2);
    frames.receive(1, frame(2, 1, 5));
    expect(take()).toEqual([[2, 5]]);
  });

  it('partitions into groups; who is not named is with the others who are not', () => {
    const { frames, learn, take } = bench();
    learn();
    frames.partition([[1], [2, 3]]);
    frames.receive(1, frame(BROADCAST, 1));
    expect(take()).toEqual([]);
    frames.receive(2, frame(3, 2, 1));
    expect(take()).toEqual([[3, 1]]);
    frames.partition([[1]]);
    frames.receive(2, frame(3, 2, 2));
    frames.receive(2, frame(1, 2, 2));
    expect(take()).toEqual([[3, 2]]);
    frames.cut(3);
    frames.partition([]);
    frames.receive(2, frame(BROADCAST, 2, 3));
    expect(take()).toEqual([[1, 3]]);
  });

  it('delays by the sum of both cables, and loses what is under way when one is pulled', () => {
    const { frames, waiting, learn, take } = bench();
    learn();
    frames.shape(1, { delayMs: 10 });
    frames.shape(2, { delayMs: 5 });
    frames.receive(1, frame(2, 1, 1));
    frames.receive(3, frame(1, 3, 2));
    expect(take()).toEqual([]);
    expect(waiting.map(({ delayMs }) => delayMs)).toEqual([15, 10]);
    frames.cut(2);
    for (const { action } of waiting.splice(0)) action();
    expect(take()).toEqual([[1, 2]]);
    frames.shape(1, {});
    frames.receive(3, frame(1, 3, 4));
    expect(take()).toEqual([[1, 4]]);
  });

  it('drops by the rate of either cable', () => {
    const { frames, learn, take, draw } = bench();
    learn();
    frames.shape(2, { dropRate: 0.3 });
    draw(0.29);
    frames.receive(1, frame(2, 1));
    frames.receive(2, frame(1, 2));
    frames.receive(1, frame(3, 1, 1));
    expect(take()).toEqual([[3, 1]]);
    expect(frames.stats().dropped).toBe(2);
    draw(0.3);
    frames.receive(1, frame(2, 1, 2));
    expect(take()).toEqual([[2, 2]]);
  });

  it('does not keep more than its limit of delayed frames', () => {
    const { frames, waiting, learn } = bench();
    learn();
    frames.shape(1, { delayMs: 1 });
    for (let count = 0; count < FRAMES_WAITING_MAX + 5; count++) frames.receive(1, frame(2, 1));
    expect(waiting.length).toBe(FRAMES_WAITING_MAX);
    expect(frames.stats().dropped).toBe(5);
  });
});

describe("a machine's cable", () => {
  const COOKIE = 0x0102_0304_0506_0708n;
  const open: { close(): unknown }[] = [];
  afterEach(async () => {
    for (const one of open.splice(0)) await one.close();
  });

  /** The machine's end, as a UML kernel behaves. */
  async function machineEnd(): Promise<{ socket: Socket; received: Buffer[] }> {
    const socket = createSocket('udp4');
    const received: Buffer[] = [];
    socket.on('message', (datagram) => received.push(datagram));
    await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
    open.push(socket);
    return { socket, received };
  }

  it('carries frames both ways, and follows the machine to the port of its next boot', async () => {
    const frames: string[] = [];
    const port = await SwitchPort.open(COOKIE, (bytes) => frames.push(Buffer.from(bytes).toString()));
    open.push(port);
    // Nobody is there yet: lost, and no error.
    port.send(Buffer.from('early'));
    const [first, second] = [await machineEnd(), await machineEnd()];
    first.socket.send([tunnelHeader(COOKIE), Buffer.from('hello')], port.udpPort, '127.0.0.1');
    await expect.poll(() => frames).toEqual(['hello']);
    port.send(Buffer.from('to you'));
    await expect.poll(() => first.received.length).toBe(1);
    expect(first.received[0]!.subarray(TUNNEL_HEADER_BYTES).toString()).toBe('to you');
    second.socket.send([tunnelHeader(COOKIE), Buffer.from('again')], port.udpPort, '127.0.0.1');
    await expect.poll(() => frames).toEqual(['hello', 'again']);
    port.send(Buffer.from('to the new one'));
    await expect.poll(() => second.received.length).toBe(1);
    expect(first.received.length).toBe(1);
  });

  it('takes nothing without the cookie of its switch, not even an address', async () => {
    const frames: string[] = [];
    const port = await SwitchPort.open(COOKIE, (bytes) => frames.push(Buffer.from(bytes).toString()));
    open.push(port);
    const [machine, stranger] = [await machineEnd(), await machineEnd()];
    stranger.socket.send([tunnelHeader(COOKIE + 1n), Buffer.from('forged')], port.udpPort, '127.0.0.1');
    stranger.socket.send(tunnelHeader(COOKIE), port.udpPort, '127.0.0.1');
    machine.socket.send([tunnelHeader(COOKIE), Buffer.from('true')], port.udpPort, '127.0.0.1');
    await expect.poll(() => frames).toEqual(['true']);
    port.send(Buffer.from('answer'));
    await expect.poll(() => machine.received.length).toBe(1);
    expect(stranger.received).toEqual([]);
  });

  it('tells the kernel the same header that it checks', () => {
    expect(tunnelHeader(COOKIE).toString('hex')).toBe('00030000000000010102030405060708');
    expect(kernelArgument(4711, COOKIE, '52:54:00:4d:00:01')).toBe(
      'vec0:transport=l2tpv3,udp=1,src=127.0.0.1,srcport=0,dst=127.0.0.1,dstport=4711,rx_session=1,tx_session=1,' +
        'cookie64=1,rx_cookie=72623859790382856,tx_cookie=72623859790382856,mac=52:54:00:4d:00:01',
    );
  });
});

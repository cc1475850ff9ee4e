import { createSocket, type Socket } from 'node:dgram';

/**
 * One cable between a machine and the switch: Ethernet frames in L2TPv3 over UDP on the loopback interface, which is the one network that both a
 * UML kernel (arch/um/drivers/vector_transports.c, `transport=l2tpv3,udp=1`) and plain Node speak, without privilege or native code.
 *
 * A datagram, all big-endian (RFC 3931, 4.1.2.2):
 * | offset | size | field   | note                                                                   |
 * |      0 |    4 | type    | 0x00030000: data, version 3; machines send it and do not check it      |
 * |      4 |    4 | session | SESSION                                                                |
 * |      8 |    8 | cookie  | random for each switch: other programs of this host cannot send frames |
 * |     16 |      | frame   |                                                                        |
 */
export const TUNNEL_HEADER_BYTES = 16;
const DATA_PACKET = 0x0003_0000;
const SESSION = 1;
const LOOPBACK = '127.0.0.1';
/** Bursts of a resync or a state transfer; the kernel takes at most net.core.rmem_max. */
const RECEIVE_BUFFER_BYTES = 1 << 20;

export function tunnelHeader(cookie: bigint): Buffer {
  const header = Buffer.alloc(TUNNEL_HEADER_BYTES);
  header.writeUInt32BE(DATA_PACKET, 0);
  header.writeUInt32BE(SESSION, 4);
  header.writeBigUInt64BE(cookie, 8);
  return header;
}

/** The machine's end, for its kernel's command line: interface `vec0`. Port 0: the machine takes any, and the switch learns it from the first frame. */
export function kernelArgument(switchPort: number, cookie: bigint, mac: string): string {
  const words = [
    'transport=l2tpv3',
    'udp=1',
    `src=${LOOPBACK}`,
    'srcport=0',
    `dst=${LOOPBACK}`,
    `dstport=${switchPort}`,
    `rx_session=${SESSION}`,
    `tx_session=${SESSION}`,
    'cookie64=1',
    `rx_cookie=${cookie}`,
    `tx_cookie=${cookie}`,
    `mac=${mac}`,
  ];
  return `vec0:${words.join(',')}`;
}

export class SwitchPort {
  /** Where the machine must send to. */
  readonly udpPort: number;
  readonly #socket: Socket;
  readonly #header: Buffer;
  /** Of the machine, learned from what it sends: another one after each boot. 0: it has said nothing yet. */
  #machinePort = 0;

  private constructor(socket: Socket, header: Buffer) {
    this.#socket = socket;
    this.#header = header;
    this.udpPort = socket.address().port;
  }

  /** Opens the switch's end. @param onFrame - gets the frame itself; the memory is its own. */
  static async open(cookie: bigint, onFrame: (frame: Uint8Array) => void): Promise<SwitchPort> {
    const socket = createSocket({ type: 'udp4', recvBufferSize: RECEIVE_BUFFER_BYTES });
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.bind(0, LOOPBACK, () => {
        socket.off('error', reject);
        resolve();
      });
    });
    const port = new SwitchPort(socket, tunnelHeader(cookie));
    socket.on('error', () => {});
    socket.on('message', (datagram, sender) => {
      if (datagram.length <= TUNNEL_HEADER_BYTES) return;
      if (port.#header.compare(datagram, 0, TUNNEL_HEADER_BYTES) !== 0) return;
      port.#machinePort = sender.port;
      onFrame(datagram.subarray(TUNNEL_HEADER_BYTES));
    });
    return port;
  }

  /** Frames for a machine that has not spoken yet, or is gone, are lost as in a cable without an end. */
  send(frame: Uint8Array): void {
    if (this.#machinePort === 0) return;
    // With a callback an error (such as a full buffer) is a lost frame, not an exception.
    this.#socket.send([this.#header, frame], this.#machinePort, LOOPBACK, () => {});
  }

  close(): Promise<void> {
    return new Promise((resolve) => this.#socket.close(() => resolve()));
  }
}

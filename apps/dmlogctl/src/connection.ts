import { existsSync } from 'node:fs';
import { ControlError, controlRequest, controlStream, DaemonStatus, RUNTIME_DIR } from '@dmlog/daemon';

export interface ConnectionFlags {
  readonly runtimeDir?: string;
  readonly controlSocket?: string;
}

/** The daemons, of which one at most runs on a host. */
const PROGRAMS = ['singled', 'clusterd'] as const;

/** The daemon that is asked. */
export class Connection {
  readonly path: string;
  /** `singled`, `clusterd`, or `daemon` where that is not known. */
  readonly program: string;

  constructor({ runtimeDir = RUNTIME_DIR, controlSocket }: ConnectionFlags) {
    const directory = runtimeDir.replace(/\/+$/, '');
    const found = PROGRAMS.find((program) => existsSync(`${directory}/${program}.sock`));
    this.path = controlSocket ?? `${directory}/${found ?? PROGRAMS[0]}.sock`;
    this.program = controlSocket === undefined ? (found ?? 'daemon') : 'daemon';
  }

  request(method: string, params?: unknown, timeoutMs?: number): Promise<unknown> {
    return controlRequest(this.path, method, params, timeoutMs);
  }

  stream(
    method: string,
    params: unknown,
    listener: { onEvent: (event: unknown) => void; onDropped?: (count: number) => void; signal: AbortSignal },
  ): Promise<void> {
    return controlStream(this.path, method, params, listener);
  }

  async status(): Promise<{ raw: unknown; status: DaemonStatus }> {
    const raw = await this.request('status');
    const parsed = DaemonStatus.safeParse(raw);
    if (parsed.success) return { raw, status: parsed.data };
    const what = parsed.error.issues[0];
    throw new ControlError(
      'ERR_CONTROL_PROTOCOL',
      `the daemon at ${this.path} answers with a status this version does not know (${what?.path.join('.')}: ${what?.message}); use the dmlogctl of its version`,
    );
  }
}

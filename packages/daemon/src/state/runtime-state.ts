import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { freshControl, LOGS_MAX, type LogName } from '@dmlog/log';
import { reason, systemCode } from '../device/errors.js';
import type { Logger } from '../logging.js';
import { loadMappingBinding, type MappingBinding } from './binding.js';
import { decodeIdentity, encodeIdentity, IDENTITY_AREA_BYTES, type LogIdentity } from './format.js';
import { StateFile } from './state-file.js';

const DIRECTORY = 'state';
const SUFFIX = '.log';
/** What the tables of one clustered log share. */
const SHARED_SUFFIX = '.replica';
/** The sequence number that the kernel used last, as far as the daemon saw: one u32, shared memory. */
const LAST_SEQ = 'last-seq';
const LAST_SEQ_BYTES = 4096;
const BOOT_ID = '/proc/sys/kernel/random/boot_id';

export interface RuntimeStateOptions {
  /** Exists, and belongs to this user. */
  readonly runtimeDir: string;
  readonly logger: Logger;
  /** Default: the addon. */
  readonly binding?: MappingBinding;
  /** Default: this boot's. */
  readonly bootId?: string;
}

/**
 * What a daemon leaves for the next one: a file per log, in a folder of the runtime directory. Synchronous: the files are on a tmpfs, and CTR, the
 * first RESUME and DTR alone come here.
 */
export class RuntimeState {
  /** `[0]`: the last request of the kernel that was seen. Shared memory; written at each request. */
  readonly lastSeq: Uint32Array;
  /** The last request that the process before this one saw; null where there is none. */
  readonly foundSeq: number | null;
  readonly #directory: string;
  readonly #bootId: string;
  readonly #binding: MappingBinding;
  readonly #logger: Logger;

  /** Throws where the folder cannot be made or memory not be mapped. */
  constructor(options: RuntimeStateOptions) {
    this.#directory = join(options.runtimeDir, DIRECTORY);
    this.#logger = options.logger;
    this.#binding = options.binding ?? loadMappingBinding();
    this.#bootId = options.bootId ?? readFileSync(BOOT_ID, 'latin1').trim();
    try {
      mkdirSync(this.#directory, { mode: 0o700 });
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error;
    }
    const fd = openSync(join(this.#directory, LAST_SEQ), constants.O_RDWR | constants.O_CREAT, 0o600);
    try {
      this.lastSeq = new Uint32Array(this.#binding.map(fd, LAST_SEQ_BYTES));
    } finally {
      closeSync(fd);
    }
    this.foundSeq = this.lastSeq[0] === 0 ? null : (this.lastSeq[0] as number);
  }

  /** The logs of this boot that a process before this one left. Other files are removed, with a line each that says why. */
  found(): StateFile[] {
    const names = readdirSync(this.#directory).filter((name) => name.endsWith(SUFFIX));
    if (names.length > LOGS_MAX) {
      this.#logger.error({ files: names.length }, `of the states of logs only ${LOGS_MAX} are looked at`);
    }
    return names.slice(0, LOGS_MAX).flatMap((name) => {
      const file = this.#read(join(this.#directory, name));
      return file === null ? [] : [file];
    });
  }

  /** The state of the log of this name, if there is one to be believed. */
  find(name: LogName): StateFile | null {
    return this.#read(this.#pathOf(name));
  }

  /** A new log, in place of one of the same name. Throws where the file cannot be written. */
  create(identity: Omit<LogIdentity, 'bootId'>): StateFile {
    return this.#create(this.#pathOf(identity), identity);
  }

  /** The same for what tables share: told apart by uuid, constructor text and device, the luid is 0. */
  createShared(identity: Omit<LogIdentity, 'bootId'>): StateFile {
    return this.#create(this.#sharedPathOf(identity), identity);
  }

  findShared(identity: Omit<LogIdentity, 'bootId'>): StateFile | null {
    return this.#read(this.#sharedPathOf(identity));
  }

  /** Removes what tables shared, but for these: the others have no table any more. */
  keepShared(paths: ReadonlySet<string>): void {
    for (const name of readdirSync(this.#directory)) {
      const path = join(this.#directory, name);
      if (name.endsWith(SHARED_SUFFIX) && !paths.has(path)) this.#refuse(path, 'no table of its log is left');
    }
  }

  #create(path: string, identity: Omit<LogIdentity, 'bootId'>): StateFile {
    const complete = { ...identity, bootId: this.#bootId };
    const bytes = Buffer.concat([encodeIdentity(complete), freshControl()]);
    // In one step: no process finds half of it.
    writeFileSync(`${path}.new`, bytes, { mode: 0o600 });
    renameSync(`${path}.new`, path);
    return new StateFile(path, complete, this.#binding, this.#logger);
  }

  #read(path: string): StateFile | null {
    const head = readHead(path);
    if (head === null) return null;
    const decoded = decodeIdentity(head);
    if (decoded.identity === null) {
      this.#refuse(path, decoded.problem);
      return null;
    }
    const { identity } = decoded;
    if (identity.bootId !== this.#bootId) {
      this.#refuse(path, 'it is of another boot', identity.uuid);
      return null;
    }
    const named = path.endsWith(SHARED_SUFFIX) ? this.#sharedPathOf(identity) : this.#pathOf(identity);
    if (named !== path) {
      this.#refuse(path, 'it is of another log than its name says', identity.uuid);
      return null;
    }
    return new StateFile(path, identity, this.#binding, this.#logger);
  }

  #refuse(path: string, problem: string, uuid?: string): void {
    this.#logger.warn({ path, uuid, problem }, `the state of a log is not used: ${problem}`);
    try {
      unlinkSync(path);
    } catch (error) {
      this.#logger.warn({ path, err: error }, `it cannot be removed either: ${reason(error)}`);
    }
  }

  /** Of the name: a uuid has up to 128 characters of any kind. */
  #pathOf({ uuid, luidLow, luidHigh }: LogName): string {
    const hex = (word: number) => word.toString(16).padStart(8, '0');
    return join(this.#directory, `${hex(luidHigh)}${hex(luidLow)}-${digestOf(uuid)}${SUFFIX}`);
  }

  #sharedPathOf({ uuid, constructorText, device }: Omit<LogIdentity, 'bootId'>): string {
    return join(
      this.#directory,
      `${digestOf(JSON.stringify([uuid, constructorText, device]))}${SHARED_SUFFIX}`,
    );
  }
}

function digestOf(text: string): string {
  return createHash('sha256').update(text, 'latin1').digest('hex').slice(0, 16);
}

/** The part of a file that holds its identity; fewer bytes where the file has fewer. Null where there is none. */
function readHead(path: string): Uint8Array | null {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    return systemCode(error) === 'ENOENT' ? null : new Uint8Array(0);
  }
  try {
    const head = new Uint8Array(IDENTITY_AREA_BYTES);
    return head.subarray(0, readSync(fd, head));
  } catch {
    return new Uint8Array(0);
  } finally {
    closeSync(fd);
  }
}

import { readFileSync } from 'node:fs';
import { RECEIVE_BUFFER_BYTES } from '@dmlog/connector';
import { parse, TomlError } from 'smol-toml';
import type { z } from 'zod';
import { reason } from '../device/errors.js';
import { ConfigError } from './errors.js';
import {
  CLUSTER_RELOAD_DEFAULT,
  type DaemonConfig,
  type FileConfig,
  FileSchema,
  FlagSchema,
  type Flags,
  LAZY_CLEAR_MS_DEFAULT,
  LAZY_CLEAR_REGIONS_DEFAULT,
  RUNTIME_DIR,
} from './schema.js';

const COMMAND_LINE = 'the command line';
/** A configuration is a page; a larger file is the wrong file. */
const CONFIG_BYTES_MAX = 1 << 20;

export interface ConfigSources {
  /** TOML file. None is read where it is absent: there is no default file. */
  readonly file?: string;
  /** What the command line says; wins over the file. */
  readonly flags?: unknown;
  /** The program's name, which its control socket bears. Default `singled`. */
  readonly program?: string;
}

/**
 * The complete configuration from defaults, file and flags, each winning over the one before.
 *
 * @throws ConfigError that names the source and the key. Unknown keys are refused: a misspelt one would be silently ignored.
 */
export function loadConfig(sources: ConfigSources = {}): DaemonConfig {
  const file = sources.file === undefined ? {} : readConfigFile(sources.file);
  const flags = checkFlags(sources.flags ?? {});
  const runtimeDir = flags.runtimeDir ?? file.runtimeDir ?? RUNTIME_DIR;
  const http = flags.http ?? file.http;
  const pollMicroseconds = flags.pollMicroseconds ?? file.pollMicroseconds;
  return {
    runtimeDir,
    controlSocket:
      flags.controlSocket ??
      controlSocketOf(file, flags, `${runtimeDir.replace(/\/+$/, '')}/${sources.program ?? 'singled'}.sock`),
    logLevel: flags.logLevel ?? file.logLevel ?? 'info',
    ...(http === undefined ? {} : { http }),
    ...(pollMicroseconds === undefined ? {} : { pollMicroseconds }),
    receiveBufferBytes: file.receiveBufferBytes ?? RECEIVE_BUFFER_BYTES,
    lazyClear: {
      milliseconds: flags.lazyClearMs ?? file.lazyClear?.milliseconds ?? LAZY_CLEAR_MS_DEFAULT,
      regionsMax: file.lazyClear?.regionsMax ?? LAZY_CLEAR_REGIONS_DEFAULT,
    },
    cluster: { reload: file.cluster?.reload ?? CLUSTER_RELOAD_DEFAULT },
    transport: flags.transport ?? file.transport ?? 'auto',
    unsafeAcceptUserRequests: flags.unsafeAcceptUserRequests ?? false,
  };
}

/** Whoever moves the runtime directory by flag moves the socket too: the file's socket belongs to the file's directory. */
function controlSocketOf(file: FileConfig, flags: Flags, beside: string): string {
  return flags.runtimeDir === undefined ? (file.controlSocket ?? beside) : beside;
}

function readConfigFile(path: string): FileConfig {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new ConfigError(
      'ERR_CONFIG_FILE',
      path,
      null,
      `cannot read configuration file ${path}: ${reason(cause)}`,
      { cause },
    );
  }
  if (text.length > CONFIG_BYTES_MAX) {
    throw new ConfigError(
      'ERR_CONFIG_FILE',
      path,
      null,
      `${path} has ${text.length} characters: this is no configuration file`,
    );
  }
  return parseConfig(text, path);
}

/** Checks the TOML `text` of a configuration file; `source` names it in errors. */
export function parseConfig(text: string, source: string): FileConfig {
  let value: unknown;
  try {
    value = parse(text);
  } catch (cause) {
    const where = cause instanceof TomlError ? `${source}:${cause.line}:${cause.column}` : source;
    const what = reason(cause).split('\n')[0] ?? '';
    throw new ConfigError('ERR_CONFIG_SYNTAX', source, null, `${where}: ${what}`, { cause });
  }
  if (typeof value === 'object' && value !== null && 'unsafeAcceptUserRequests' in value) {
    const key = 'unsafeAcceptUserRequests';
    const message = `${source}: \`${key}\` cannot be set in a file; give --unsafe-accept-user-requests on the command line, in tests only`;
    throw new ConfigError('ERR_CONFIG_KEY', source, key, message);
  }
  const parsed = FileSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw keyError('ERR_CONFIG_KEY', source, parsed.error.issues[0]);
}

function checkFlags(value: unknown): Flags {
  const parsed = FlagSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw keyError('ERR_CONFIG_FLAG', COMMAND_LINE, parsed.error.issues[0]);
}

type Issue = z.core.$ZodIssue;

function keyError(
  code: 'ERR_CONFIG_KEY' | 'ERR_CONFIG_FLAG',
  source: string,
  issue: Issue | undefined,
): ConfigError {
  if (issue === undefined) return new ConfigError(code, source, null, `${source}: unusable`);
  const unknown = issue.code === 'unrecognized_keys' ? issue.keys[0] : undefined;
  const key = [...issue.path, ...(unknown === undefined ? [] : [unknown])].join('.');
  const isFlag = code === 'ERR_CONFIG_FLAG';
  const shown = isFlag ? flagName(key) : `\`${key}\``;
  if (unknown !== undefined) {
    const known = knownKeys(isFlag, issue.path[0]);
    const hint = `known are ${(isFlag ? known.map(flagName) : known).join(', ')}`;
    return new ConfigError(code, source, key, `${source}: unknown key ${shown}; ${hint}`);
  }
  return new ConfigError(code, source, key, `${source}: ${shown}: ${issue.message}`);
}

function knownKeys(isFlag: boolean, section: PropertyKey | undefined): string[] {
  if (isFlag) return Object.keys(FlagSchema.shape);
  const { lazyClear, cluster } = FileSchema.shape;
  if (section === 'lazyClear') return Object.keys(lazyClear.unwrap().shape);
  return Object.keys(section === 'cluster' ? cluster.unwrap().shape : FileSchema.shape);
}

/** `lazyClearMs` as it is typed: `--lazy-clear-ms`. */
export function flagName(key: string): string {
  return `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

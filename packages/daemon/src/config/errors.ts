/** A configuration that cannot be used. The daemon does not start on a guess. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  /** Stable. `ERR_CONFIG_FLAG` is a mistake on the command line, the others are about the file. */
  readonly code: 'ERR_CONFIG_FILE' | 'ERR_CONFIG_SYNTAX' | 'ERR_CONFIG_KEY' | 'ERR_CONFIG_FLAG';
  /** The file, or `the command line`. */
  readonly source: string;
  /** The key with dots, where one is to blame. */
  readonly key: string | null;

  constructor(
    code: ConfigError['code'],
    source: string,
    key: string | null,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.code = code;
    this.source = source;
    this.key = key;
  }
}

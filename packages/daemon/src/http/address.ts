/** Where the status page and the metrics are served. */
export type HttpAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

/**
 * `127.0.0.1:9644`, `[::1]:9644`, `localhost:9644`, or the absolute path of a unix socket. Nothing but loopback: there are no passwords and no TLS here, that is for a proxy
 * to add.
 */
export function parseHttpAddress(text: string): HttpAddress | null {
  if (text.startsWith('/')) return { kind: 'unix', path: text };
  const [, host, digits] = /^(127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\]|localhost):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (host === undefined || port > 65_535) return null;
  return { kind: 'tcp', host: host === '[::1]' ? '::1' : host, port };
}

/** Whether a request that names this host was meant for us: a page from elsewhere whose name was made to point here was not (DNS rebinding). */
export function isOwnHost(host: string | undefined): boolean {
  return host !== undefined && /^(127\.\d+\.\d+\.\d+|\[::1\]|localhost)(:\d+)?$/i.test(host);
}

export interface CorosyncConfig {
  readonly nodeIds: readonly number[];
  readonly tokenMs: number;
  readonly quorumProvider: boolean;
  /** Of udpu's packets. Default of corosync: 1500. */
  readonly netmtu?: number;
}

/** Same in every cluster: each has its own network. */
export const addressOf = (nodeId: number): string => `10.77.0.${nodeId}`;

/** The text of a corosync.conf: udpu, no encryption, votequorum. A dead node is noticed after 2.2 × tokenMs. */
export function corosyncConf(config: CorosyncConfig): string {
  const totem = [
    'version: 2',
    'cluster_name: lab',
    'transport: udpu',
    'crypto_cipher: none',
    'crypto_hash: none',
    `token: ${config.tokenMs}`,
    'token_coefficient: 0',
    ...(config.netmtu === undefined ? [] : [`netmtu: ${config.netmtu}`]),
  ];
  const nodes = config.nodeIds.map((nodeId) =>
    section('node', [`nodeid: ${nodeId}`, `name: c${nodeId}`, `ring0_addr: ${addressOf(nodeId)}`]),
  );
  return [
    section('totem', totem),
    section('nodelist', nodes),
    ...(config.quorumProvider ? [section('quorum', ['provider: corosync_votequorum'])] : []),
    section('logging', ['to_stderr: yes', 'to_syslog: no', 'timestamp: hires']),
    '',
  ].join('\n');
}

const section = (name: string, lines: readonly string[]): string => `${name} {\n${lines.join('\n')}\n}`;

import { type Logger, type LogTypes, type Program, serve } from '@dmlog/daemon';
import manifest from '../package.json';
import { AuditLog } from './audit-log.js';

/** As the table line says it: `mirror userspace 3 <uuid> audit 1024 …`. */
export const AUDIT_TYPE = 'audit';

/** Entries go to the daemon's log, which never waits for whoever reads it. */
export function auditTypes(logger: Logger): LogTypes {
  return new Map([
    [
      AUDIT_TYPE,
      (parameters, reconnected, home) =>
        new AuditLog({
          parameters,
          reconnected,
          home,
          note: (entry) => logger.info(entry, `region ${entry.region} ${entry.event}`),
        }),
    ],
  ]);
}

/** singled, with one type more. */
export const auditd: Program = {
  name: 'auditd',
  description: 'Serves device-mapper userspace dirty logs that keep an audit',
  version: manifest.version,
  serve: (config, logger, start) => serve(config, logger, { logTypes: auditTypes(logger) }, start),
};

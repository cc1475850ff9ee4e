/**
 * A third log type, written against the public APIs of the packages only: see CONTRIBUTING.md, "Add a log type".
 *
 * @packageDocumentation
 */
export { AUDIT_ENTRIES_MAX, type AuditEntry, AuditLog, type AuditLogInit } from './audit-log.js';
export { AUDIT_TYPE, auditd, auditTypes } from './auditd.js';

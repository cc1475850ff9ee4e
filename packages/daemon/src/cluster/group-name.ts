import { createHash } from 'node:crypto';
import { GROUP_NAME_CHARACTERS_MAX } from '@dmlog/cluster';

const PREFIX = 'dmlog:';

/** The name of a log's group: its uuid where a group may be called so, else a digest of it. */
export function groupNameOf(uuid: string): string {
  const name = `${PREFIX}${uuid}`;
  if (name.length <= GROUP_NAME_CHARACTERS_MAX && /^[\x21-\x7e]+$/.test(name)) return name;
  return `${PREFIX}sha256:${createHash('sha256').update(uuid, 'latin1').digest('hex')}`;
}

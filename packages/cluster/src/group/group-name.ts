/** Longest name of a group, in characters: one below what CPG stores, because node changes compare names as C strings (cpg.c). */
export const GROUP_NAME_CHARACTERS_MAX = 127;

/** Throws a RangeError unless `name` is 1 to {@link GROUP_NAME_CHARACTERS_MAX} printable ASCII characters. */
export function checkGroupName(name: string): void {
  if (name.length >= 1 && name.length <= GROUP_NAME_CHARACTERS_MAX && /^[\x20-\x7e]+$/.test(name)) return;
  throw new RangeError(
    `group name ${JSON.stringify(name)}: 1 to ${GROUP_NAME_CHARACTERS_MAX} printable ASCII characters are allowed`,
  );
}

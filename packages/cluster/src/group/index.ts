export * from './contract.js';
export { type CorosyncGroupOptions, corosyncGroup } from './corosync.js';
export { checkGroupName, GROUP_NAME_CHARACTERS_MAX } from './group-name.js';
export * from './simulated.js';

export * from './contract.js';
export { checkGroupName, GROUP_NAME_CHARACTERS_MAX } from './group-name.js';
export * from './simulated.js';

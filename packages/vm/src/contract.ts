/** Contract suites for what can be plugged into virtual memory. */
export { reclaimPolicyContract } from './reclaim-contract.ts';
export { replacementPolicyContract } from './replacement/contract.ts';
export { swapDeviceContract } from './swap-device-contract.ts';
export { compressorContract } from './compressor-contract.ts';

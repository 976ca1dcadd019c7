/** Contract suites for what can be plugged into virtual memory. */
export { replacementPolicyContract } from './replacement/contract.ts';
export { swapDeviceContract } from './swap-device-contract.ts';
export { compressorContract } from './compressor-contract.ts';

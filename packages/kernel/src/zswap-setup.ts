/**
 * zswap as a machine begins: what there is to compress with, and what the command line asks for.
 */
import type { Compressor } from '@pagelab/vm';
import { ConfigError } from './config.ts';
import type { Kernel } from './kernel.ts';
import { zswapFiles } from './sys/zswap.ts';

/**
 * @throws ConfigError where the command line asks for what cannot be had
 * @linux mm/zswap.c:zswap_init
 */
export function bootZswap(kernel: Kernel, compressors: readonly Compressor[]): void {
  const { config, vm } = kernel;
  const { zswap } = vm;
  zswap.wakeShrinker = () => {
    kernel.daemons.wake(kernel, 'zswap-shrink', 0);
  };
  zswap.addCompressors(compressors);
  const files = zswapFiles(kernel);
  // The last word counts; it is switched on with what the others say.
  const words = [...(config.commandLine.zswap ?? [])].sort(([one], [other]) => Number(one === 'enabled') - Number(other === 'enabled'));
  for (const [parameter, value] of words) {
    if (files.get(`/sys/module/zswap/parameters/${parameter}`)!.write!(value, null) >= 0) continue;
    const names = compressors.map(({ name }) => name).join(', ');
    throw new ConfigError(`cmdline: "zswap.${parameter}" cannot be ${value}: ${names === '' ? 'the host hands in nothing to compress with' : `there is ${names} to compress with`}`);
  }
}

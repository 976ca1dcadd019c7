import { RLIMIT_AS } from '@pagelab/abi';
import { boot } from '@pagelab/kernel';
import { mallocs } from '@pagelab/libc-malloc';
import type { Malloc, MallocOs } from '@pagelab/libc-malloc';
import { mallocContract } from '@pagelab/libc-malloc/contract';
import createFirstFit from './first-fit-malloc.ts';

/** The contract on a booted machine: the plug-in, and pagelab's own beside it. */
const allocators: Readonly<Record<string, (os: MallocOs) => Malloc>> = { 'first fit': createFirstFit, ...mallocs };

for (const [name, create] of Object.entries(allocators)) {
  const machine = boot({ memory: '16G' });
  mallocContract(
    ({ memoryBytes }) => {
      const { os } = machine.createProcess({ name: 'contract' });
      const mappedKb = Number(/VmSize:\s+(\d+)/.exec(os.readFile('/proc/self/status'))![1]);
      const limit = mappedKb * 1024 + memoryBytes;
      os.setrlimit(RLIMIT_AS, { cur: limit, max: limit });
      return { malloc: create(os), os };
    },
    { name: `${name} on a booted machine`, operations: 2000, neverReuses: name === 'bump' },
  );
}

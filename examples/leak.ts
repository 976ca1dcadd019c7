/**
 * A leak, seen in the mapping list: a worker maps a buffer with a guard page for each request and unmaps only the
 * buffer. The guard pages stay, cost no memory, and eat up the mappings a process may have.
 */
import { MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_NONE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { mapsLines, statusKb } from './shared/proc.ts';

const BUFFER = 16 * PAGE_SIZE;

export default function leak(os: Os): void {
  const serve = (): void => {
    const area = os.mmap(0, BUFFER + PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    os.mprotect(area, PAGE_SIZE, PROT_NONE);
    os.mem.fill(area + PAGE_SIZE, BUFFER, 1);
    os.munmap(area + PAGE_SIZE, BUFFER);
  };
  const report = (when: string): void => {
    const guards = mapsLines(os, / ---p /).length;
    os.print(`${when}: ${guards} mappings without access, size ${statusKb(os, 'VmSize')} KiB, resident ${statusKb(os, 'VmRSS')} KiB`);
  };

  report('at the start');
  for (const requests of [1, 9, 90]) {
    for (let i = 0; i < requests; i++) serve();
    report(`${requests} more requests`);
  }
  os.print('the highest of them:');
  for (const line of mapsLines(os, / ---p /).slice(-3)) os.print(`  ${line}`);
}

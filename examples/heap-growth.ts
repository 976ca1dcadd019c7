/**
 * A heap grows in two ways: small blocks come from the program break, which moves up 132 KiB at a time; a block of
 * 128 KiB and more gets a mapping of its own. Freed memory at the top of the break goes back to the kernel.
 */
import type { Os } from '@pagelab/abi';
import { glibc } from '@pagelab/libc-malloc';
import { statusKb } from './shared/proc.ts';

export default function heapGrowth(os: Os): void {
  const malloc = glibc(os);
  const start = os.sbrk(0);
  const report = (when: string): void => {
    const { hblks, uordblks } = malloc.mallinfo2();
    os.print(`${when}: break +${(os.sbrk(0) - start) / 1024} KiB, ${hblks} mapped, ${Math.round(uordblks / 1024)} KiB in use, RSS ${statusKb(os, 'VmRSS')} KiB`);
  };

  report('at the start');
  const first = malloc.malloc(100);
  report('100 bytes');
  const small = Array.from({ length: 1000 }, () => malloc.malloc(1000));
  report('1,000 × 1,000 bytes');
  const large = malloc.malloc(1 << 20);
  report('1 MiB');
  os.mem.fill(large, 1 << 20, 1);
  report('1 MiB written');
  malloc.free(large);
  report('1 MiB freed');
  const again = malloc.malloc(1 << 20);
  report('1 MiB again: the threshold has moved');
  malloc.free(again);
  for (const block of small) malloc.free(block);
  report('1,000 blocks freed');
  malloc.free(first);
}

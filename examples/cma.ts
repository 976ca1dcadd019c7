/**
 * CMA: a region that a device can have in one piece, and that programs use until it does.
 */
import { MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

export const machine = { memory: '160M', cmdline: 'cma=64M' };

const BYTES = 72 * 2 ** 20;
const CMA = '/sys/kernel/debug/cma/reserved/';

function show(os: Os, what: string): void {
  const mib = (name: string): number => Math.round(Number(new RegExp(`^${name}: +(\\d+)`, 'm').exec(os.readFile('/proc/meminfo'))![1]) / 1024);
  const moved = Number(/^pgmigrate_success (\d+)$/m.exec(os.readFile('/proc/vmstat'))![1]);
  os.print(`${what}: ${mib('CmaFree')} of ${mib('CmaTotal')} MiB of the region free; pages moved so far: ${moved}`);
}

export default function cma(os: Os): void {
  if (!os.readFile('/proc/cmdline').includes('cma=')) return;
  show(os, 'at first');
  const start = os.mmap(0, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  for (let at = 0; at < BYTES; at += PAGE_SIZE) os.mem.store32(start + at, at);
  show(os, 'a program with 72 MiB');

  // As the driver of a camera or a display would: 16 MiB in one piece.
  os.writeFile(`${CMA}alloc`, '4096');
  show(os, '16 MiB allocated');
  let changed = 0;
  for (let at = 0; at < BYTES; at += PAGE_SIZE) if (os.mem.load32(start + at) !== at) changed++;
  os.print(`pages that the program finds changed: ${changed}`);

  os.writeFile(`${CMA}free`, '4096');
  show(os, 'given back');
}

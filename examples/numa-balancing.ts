/**
 * NUMA balancing: a program moves to another CPU, and its pages follow it; and memory tiers, where what is not used goes to
 * slower memory instead of to disk.
 */
import { MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, O_WRONLY, PAGE_SIZE, PROT_READ, PROT_WRITE, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

export const machine = {
  memory: '320M',
  cpus: 2,
  numa: [{ memory: '64M', cpus: [0] }, { memory: '128M', cpus: [1] }, { memory: '128M', cpus: [], adistance: 2880 }],
};

const PAGES = 2048;

function vmstat(os: Os, name: string): string {
  return new RegExp(`^${name} (\\d+)`, 'm').exec(os.readFile('/proc/vmstat'))?.[1] ?? '0';
}

/** Where the pages of a mapping lie. */
function where(os: Os, start: number): string {
  const nodes = os.readFile('/proc/self/numa_maps').split('\n').find((line) => line.startsWith(start.toString(16)))?.match(/N\d=\d+/g);
  return (nodes ?? ['nowhere else']).join(' ');
}

function touch(os: Os, start: number, pages: number): void {
  for (let page = 0; page < pages; page++) os.mem.store8(start + page * PAGE_SIZE, page & 0xff);
}

export default function numaBalancing(os: Os): void {
  const scratch = os.mmap(0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  const sleep = (): void => {
    os.mem.store32(scratch, 1);
    os.mem.store32(scratch + 4, 0);
    os.mem.store64(scratch + 8, 100_000_000n);
    os.syscall(Syscall.nanosleep, scratch, 0);
  };
  const runOn = (cpu: number): void => {
    os.mem.store32(scratch, 1 << cpu);
    os.syscall(Syscall.sched_setaffinity, 0, 8, scratch);
  };
  runOn(0);
  const start = os.mmap(0, PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  touch(os, start, PAGES);
  os.print(`on CPU 0: ${where(os, start)}`);
  runOn(1);
  for (let second = 1; second <= 3; second++) {
    sleep();
    touch(os, start, PAGES);
    os.print(`after ${second} s on CPU 1: ${where(os, start)}`);
  }
  os.print(`${vmstat(os, 'numa_hint_faults')} faults told of a use, ${vmstat(os, 'numa_pages_migrated')} pages moved`);

  // More than node 0 has: what was not used for longest goes to the slow node.
  os.mem.storeCString(scratch, '/sys/kernel/mm/numa/demotion_enabled');
  const fd = os.syscall(Syscall.open, scratch, O_WRONLY, 0);
  // Kernels of 32 bits know no nodes.
  if (fd < 0) return;
  os.mem.storeCString(scratch, '1');
  os.syscall(Syscall.write, fd, scratch, 1);
  runOn(0);
  const large = os.mmap(0, 20_000 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  os.mem.store64(scratch, 1n);
  os.syscall(Syscall.mbind, large, 20_000 * PAGE_SIZE, 2, scratch, 64, 0);
  touch(os, large, 20_000);
  // How many exactly depends on every page that the kernel has there itself.
  const demoted = Number(vmstat(os, 'pgdemote_kswapd')) + Number(vmstat(os, 'pgdemote_direct'));
  const slow = Number(/N2=(\d+)/.exec(where(os, large))?.[1] ?? 0);
  os.print(`bound to node 0, which is full: about ${Math.round(slow / 1000)},000 of 20,000 pages are on the slow node`);
  os.print(`  ${demoted === slow ? 'each was demoted' : `${demoted} were demoted`}, ${vmstat(os, 'pswpout')} swapped out`);
}

/**
 * What calls, faults and forks cost through the handle of a program, in host nanoseconds. The targets stand in ratios to
 * the same work on the host's own kernel.
 */
import { Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { boot } from './boot.ts';
import { console, performance } from './testing/host.ts';

const RW = 3;
const PRIVATE_ANON = 0x22;
const ROUNDS = 7;

/** Median nanoseconds of one of `count` repetitions. */
function measure(name: string, count: number, work: (count: number) => void): void {
  work(count);
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const began = performance.now();
    work(count);
    times.push(((performance.now() - began) * 1e6) / count);
  }
  times.sort((a, b) => a - b);
  console.log(`${name.padEnd(44)} ${times[ROUNDS >> 1]!.toFixed(0).padStart(7)} ns  (best ${times[0]!.toFixed(0)})`);
}

function program(os: Os): void {
  const { mem } = os;
  measure('getpid', 100_000, (n) => {
    for (let i = 0; i < n; i++) os.getpid();
  });
  measure('syscall(getpid)', 100_000, (n) => {
    for (let i = 0; i < n; i++) os.syscall(Syscall.getpid);
  });
  measure('mmap + munmap, untouched', 20_000, (n) => {
    for (let i = 0; i < n; i++) os.munmap(os.mmap(0, 4096, RW, PRIVATE_ANON), 4096);
  });
  measure('mmap + touch + munmap', 20_000, (n) => {
    for (let i = 0; i < n; i++) {
      const at = os.mmap(0, 4096, RW, PRIVATE_ANON);
      mem.store8(at, 1);
      os.munmap(at, 4096);
    }
  });
  const heap = os.sbrk(0);
  measure('brk up and down a page', 20_000, (n) => {
    for (let i = 0; i < n; i++) {
      os.brk(heap + 4096);
      os.brk(heap);
    }
  });
  const area = os.mmap(0, 1024 * 4096, RW, PRIVATE_ANON);
  measure('anonymous write fault, with its DONTNEED', 10_240, (n) => {
    for (let i = 0; i < n; i += 1024) {
      for (let page = 0; page < 1024; page++) mem.store8(area + page * 4096, 1);
      os.madvise(area, 1024 * 4096, 4);
    }
  });
  measure('zero-page read fault, with its DONTNEED', 10_240, (n) => {
    for (let i = 0; i < n; i += 1024) {
      for (let page = 0; page < 1024; page++) mem.load8(area + page * 4096);
      os.madvise(area, 1024 * 4096, 4);
    }
  });
  measure('mprotect that splits, then merges', 20_000, (n) => {
    for (let i = 0; i < n; i++) {
      os.mprotect(area + 4096, 4096, 1);
      os.mprotect(area + 4096, 4096, RW);
    }
  });
  measure('fork + exit + wait, small process', 500, (n) => {
    for (let i = 0; i < n; i++) os.waitpid(os.fork(() => 0));
  });
  mem.fill(area, 1024 * 4096, 1);
  measure('fork + exit + wait, a resident page of 1,024', 20 * 1024, (n) => {
    for (let i = 0; i < n; i += 1024) os.waitpid(os.fork(() => 0));
  });
  const status = '/proc/self/status';
  measure('reading /proc/self/status', 2000, (n) => {
    for (let i = 0; i < n; i++) os.readFile(status);
  });
}

measure('boot of 1 GiB', 20, (n) => {
  for (let i = 0; i < n; i++) boot({ memory: '1G', cpus: 2 });
});
measure('boot of 1 TiB', 20, (n) => {
  for (let i = 0; i < n; i++) boot({ memory: '1T', cpus: 2 });
});
const machine = boot({ memory: '1G' });
const { error } = machine.run(program);
if (error !== undefined) throw error as Error;

/**
 * What one thread unmaps, others may still have in their CPUs' TLBs: those CPUs are interrupted, and only those. A CPU that has
 * not run the address space, or has been told already, is left alone; a mapping that nobody touched interrupts nobody.
 */
import { MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE, Syscall } from '@pagelab/abi';
import type { Os, ProgramGenerator } from '@pagelab/abi';

export const machine = { memory: '256M', cpus: 4 };

const PAGES = 64;
const BYTES = PAGES * PAGE_SIZE;

export default function* tlbShootdown(os: Os): ProgramGenerator {
  const map = (): number => os.mmap(0, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  const unmap = (what: string, at: number): void => {
    const before = interrupts(os);
    os.munmap(at, BYTES);
    os.print(`${what}: ${interrupts(os) - before} CPUs interrupted`);
  };
  const cpus = os.readFile('/proc/interrupts').match(/CPU\d+/g)!.length;
  pin(os, 0);
  unmap('one thread', touched(os, map()));
  let left = cpus - 1;
  for (let cpu = 1; cpu < cpus; cpu++) {
    os.thread(function* (thread) {
      pin(thread, cpu);
      thread.mem.load8(thread.sbrk(0) - 1);
      left -= 1;
      // It goes on running: its CPU keeps the address space.
      while (left >= 0) yield;
    });
  }
  while (left > 0) yield;
  unmap(`${cpus} threads, on as many CPUs`, touched(os, map()));
  unmap('a mapping that nobody touched', map());
  const area = touched(os, map());
  const before = interrupts(os);
  for (let at = 0; at < BYTES; at += PAGE_SIZE) os.munmap(area + at, PAGE_SIZE);
  os.print(`page by page, ${PAGES} of them: ${interrupts(os) - before} interrupts, where one call needs ${cpus - 1}`);
  left = -1;
}

function touched(os: Os, at: number): number {
  os.mem.fill(at, BYTES, 1);
  return at;
}

/** Lets the calling thread run on one CPU only. */
function pin(os: Os, cpu: number): void {
  const mask = os.stackPointer() - 64;
  os.mem.store32(mask, 1 << cpu);
  os.mem.store32(mask + 4, 0);
  os.syscall(Syscall.sched_setaffinity, 0, 8, mask);
}

/** Interrupts of all CPUs. */
function interrupts(os: Os): number {
  const counts = /^TLB: (.*)TLB shootdowns$/m.exec(os.readFile('/proc/interrupts'))![1]!;
  return counts.trim().split(/ +/).reduce((sum, count) => sum + Number(count), 0);
}

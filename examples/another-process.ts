/**
 * A debugger's view: reading and writing another process's memory without its doing anything, through pages that the kernel
 * pins for the while. Permissions of the other's mappings hold; how far it got is the answer.
 */
import { MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_NONE, PROT_READ, PROT_WRITE, Syscall, errnoName } from '@pagelab/abi';
import type { Os, ProgramGenerator } from '@pagelab/abi';

export default function* anotherProcess(os: Os): ProgramGenerator {
  const area = os.mmap(0, 4 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  os.mprotect(area + 3 * PAGE_SIZE, PAGE_SIZE, PROT_NONE);
  const pid = os.fork(function* (child) {
    for (let word = 0; word < 4; word++) child.mem.store32(area + 4 * word, 100 + word);
    while (child.mem.load32(area) !== 0) yield;
    child.print('child: my first word has become 0, and I did nothing');
    return 0;
  });
  yield;

  const buffer = os.mmap(0, 4 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  const answer = (result: number): string => (result < 0 ? errnoName(result) : `${result} bytes`);
  const words = (at: number): string => [0, 1, 2, 3].map((word) => os.mem.load32(at + 4 * word)).join(' ');
  os.print(`its words: ${answer(transfer(os, 'process_vm_readv', pid, buffer, area, 16))}: ${words(buffer)}; mine at that address: ${words(area)}`);
  os.print(`all four pages, the last without access: ${answer(transfer(os, 'process_vm_readv', pid, buffer, area, 4 * PAGE_SIZE))}`);
  os.print(`the last alone: ${answer(transfer(os, 'process_vm_readv', pid, buffer, area + 3 * PAGE_SIZE, 4))}`);
  os.mem.store32(buffer, 0);
  os.print(`written: ${answer(transfer(os, 'process_vm_writev', pid, buffer, area, 4))}`);
  while (os.waitpid(pid, 1) === null) yield;
  os.print(`it has ended: ${answer(transfer(os, 'process_vm_readv', pid, buffer, area, 4))}`);
}

/** One piece of memory here, one there: each an `iovec` of two words. */
function transfer(os: Os, call: 'process_vm_readv' | 'process_vm_writev', pid: number, here: number, there: number, bytes: number): number {
  const word = os.stackPointer() < 2 ** 32 ? 4 : 8;
  const local = os.stackPointer() - 64;
  const remote = local + 2 * word;
  [here, bytes, there, bytes].forEach((value, at) => {
    if (word === 4) os.mem.store32(local + 4 * at, value);
    else os.mem.storeAddress(local + 8 * at, value);
  });
  return os.syscall(Syscall[call], pid, local, 1, remote, 1, 0);
}

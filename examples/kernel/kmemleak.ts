/**
 * A driver that keeps its requests in a list from its data section on, and forgets one on an error path. Nothing points to that
 * one any more: kmemleak finds it, and who allocated it.
 */
import type { KernelModule, Machine, MachineConfigInput } from '@pagelab/kernel';

export const machine: MachineConfigInput = { memory: '256M', cmdline: 'kmemleak=on' };

const FILE = '/sys/kernel/debug/kmemleak';
const NEXT = 0;
const NAME = 16;

function queueRequest(k: KernelModule, head: number, name: string, fails: boolean): void {
  k.call('queue_request', () => {
    const request = k.kzalloc(64);
    k.mem.set(request + NAME, new TextEncoder().encode(name));
    // The bug: on failure the request is neither queued nor freed.
    if (fails) return;
    k.mem.storeAddress(request + NEXT, k.mem.loadAddress(head));
    k.mem.storeAddress(head, request);
  });
}

export default function kmemleak(on: Machine, print: (line: string) => void): void {
  on.module((k) => {
    const head = k.data(8);
    for (let i = 0; i < 5; i++) queueRequest(k, head, `request ${i}`, i === 3);
  }, { name: 'driver' });
  const scan = (when: string): void => {
    on.writeFile(FILE, 'scan');
    print(`${when}: ${on.kmemleak().length} leaks`);
  };
  scan('a scan at once spares what is young');
  on.module((k) => {
    k.msleep(10_000);
  });
  scan('ten seconds later');
  for (const { size, ageMs, backtrace, text } of on.kmemleak()) {
    print(`${size} bytes, ${ageMs / 1000} s old, from ${backtrace.join(' < ')}:`);
    for (const line of text.trimEnd().split('\n')) print(`  ${line}`);
  }
}

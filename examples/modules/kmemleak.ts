/**
 * A driver that keeps its requests in a list from its data section on, and forgets one on an error path. Nothing points to that
 * one any more: kmemleak finds it, and who allocated it.
 */
import type { KernelModule, MachineConfigInput } from '@pagelab/kernel';

export const machine: MachineConfigInput = { memory: '256M', cmdline: 'kmemleak=on' };

const FILE = '/sys/kernel/debug/kmemleak';
const NEXT = 0;
const NAME = 16;

function queueRequest(kernel: KernelModule, head: number, name: string, fails: boolean): void {
  kernel.call('queue_request', () => {
    const request = kernel.kzalloc(64);
    kernel.mem.set(request + NAME, new TextEncoder().encode(name));
    // The bug: on failure the request is neither queued nor freed.
    if (fails) return;
    kernel.mem.storeAddress(request + NEXT, kernel.mem.loadAddress(head));
    kernel.mem.storeAddress(head, request);
  });
}

export default function kmemleak(kernel: KernelModule): void {
  const head = kernel.data(8);
  for (let i = 0; i < 5; i++) queueRequest(kernel, head, `request ${i}`, i === 3);

  kernel.writeFile(FILE, 'scan');
  kernel.printk(`a scan at once spares what is young: "${kernel.readFile(FILE)}"`);
  kernel.msleep(10_000);
  kernel.writeFile(FILE, 'scan');
  for (const line of kernel.readFile(FILE).trimEnd().split('\n')) kernel.printk(line);

  for (let request = kernel.mem.loadAddress(head); request !== 0; ) {
    const next = kernel.mem.loadAddress(request + NEXT);
    kernel.kfree(request);
    request = next;
  }
}

import type { Kernel } from '../kernel.ts';

/**
 * `/proc/interrupts`: those there are here, which CPUs send one another for their TLBs.
 *
 * @linux arch/x86/kernel/irq.c:arch_show_interrupts
 */
export function interrupts(kernel: Kernel): string {
  const received = [...kernel.smp.ipisReceived];
  const head = received.map((_, cpu) => `CPU${cpu}`.padEnd(11)).join('');
  return `${' '.repeat(11)}${head}\nTLB: ${received.map((count) => `${count}`.padStart(10)).join(' ')}   TLB shootdowns\n`;
}

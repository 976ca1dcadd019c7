/**
 * A program takes another's place: the process, its number and its open files stay, and the whole address space is new. What
 * the new program's file holds decides where its data end and its heap begins; a position-independent one leaves it to the
 * kernel where all of it goes.
 */
import type { Os } from '@pagelab/abi';
import { mapsLines } from './shared/proc.ts';

const MIB = 2 ** 20;

function show(os: Os, name: string): void {
  os.print(`${name}: process ${os.getpid()}, heap at 0x${os.sbrk(0).toString(16)}`);
  for (const line of mapsLines(os, /\/bin|^\S+ rw-p 00000000 00:00 0 *$|heap/)) os.print(`  ${line}`);
}

const independent = Object.assign((os: Os) => {
  show(os, 'independent');
}, { image: { text: MIB, bss: 0, pie: true } });

const large = Object.assign((os: Os) => {
  os.sbrk(4096);
  show(os, 'large');
  os.execve(independent);
}, { image: { text: 4 * MIB, constants: MIB, data: 64 * 1024, bss: 16 * MIB } });

export default function programStart(os: Os): void {
  show(os, 'small');
  os.execve(large);
}

/** What programs see of memory that breaks, line by line as Linux 6.18 showed it. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { boot } from './boot.ts';
import type { Machine } from './machine.ts';
import { runMemoryScript, scriptLines } from './testing/memory-script.ts';

/** Counts from the first one on: other errors came before. */
function relative(lines: readonly string[]): string[] {
  let first = -1;
  return lines.map((line) => {
    const match = /^(meminfo HardwareCorrupted) => (\d+) kB$/.exec(line);
    if (match === null) return line;
    if (first < 0) first = Number(match[2]);
    return `${match[1]} => ${Number(match[2]) - first}`;
  });
}

/** Which of the merged pages is named depends on how they are found. */
function anyMerged(line: string): string {
  return line.replace(/^(poison k\+0 => 0 SIGBUS 4 k)\+\d+/, '$1');
}

/** What the kernel said of it, without numbers. */
function log(machine: Machine): string[] {
  const lines = machine.readFile('/dev/kmsg').split('\n').map((line) => line.replace(/^<?[^\]]*\] /, ''));
  return lines
    .filter((line) => /^(Memory failure|Injecting|Soft off|Unpoison)/.test(line))
    .map((line) => line.replace(/0x[0-9a-f]+/g, '0x').replace(/SIGBUS to \S+:\d+/, 'SIGBUS to NAME:PID'));
}

it.each(['memory-failure', 'memory-failure-file', 'memory-failure-swap', 'memory-failure-free-hugetlb'])('does as recorded: %s', (name) => {
  const text = readFileSync(new URL(`testdata/${name}.txt`, import.meta.url), 'utf8');
  const recorded = scriptLines(text);
  const machine = boot({ memory: '1G', cpus: 1, cmdline: 'transparent_hugepage=madvise', swap: [{ size: '64M' }] });
  const seen = runMemoryScript(machine, recorded);
  expect(relative(seen).map(anyMerged)).toEqual(relative(recorded).map(anyMerged));
  const said = text.split('\n').filter((line) => line.startsWith('# log: ')).map((line) => line.slice('# log: '.length));
  if (said.length > 0) expect(log(machine)).toEqual(said);
  machine.validate();
});

/** What PAGEMAP_SCAN finds, and what it protects, line by line as Linux 6.18 did. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { boot } from './boot.ts';
import { runMemoryScript, scriptLines } from './testing/memory-script.ts';

const PAGE_IS_SOFT_DIRTY = 0x80;

/** The kernel that was recorded has no soft dirty bits. */
function withoutSoftDirty(line: string): string {
  return line.replace(/ ([0-9a-f]+)\]/g, (_, categories: string) => ` ${(parseInt(categories, 16) & ~PAGE_IS_SOFT_DIRTY).toString(16)}]`);
}

it('does as recorded', () => {
  const recorded = scriptLines(readFileSync(new URL('testdata/pagemap-scan.txt', import.meta.url), 'utf8'));
  const machine = boot({ memory: '1G', cpus: 2, cmdline: 'transparent_hugepage=madvise' });
  expect(runMemoryScript(machine, recorded).map(withoutSoftDirty)).toEqual(recorded);
  machine.validate();
});

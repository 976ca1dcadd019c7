/** What PAGEMAP_SCAN finds, and what it protects, line by line as Linux 6.18 did. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { boot } from './boot.ts';
import { runMemoryScript, scriptLines, withoutSoftDirty } from './testing/memory-script.ts';

it('does as recorded', () => {
  const recorded = scriptLines(readFileSync(new URL('testdata/pagemap-scan.txt', import.meta.url), 'utf8'));
  const machine = boot({ memory: '1G', cpus: 2, cmdline: 'transparent_hugepage=madvise' });
  expect(runMemoryScript(machine, recorded).map(withoutSoftDirty)).toEqual(recorded);
  machine.validate();
});

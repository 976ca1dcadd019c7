/** What userfaultfd does to the entries and to who stores, line by line as Linux 6.18 did. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { boot } from './boot.ts';
import { runMemoryScript, scriptLines, withoutSoftDirty } from './testing/memory-script.ts';

it.each(['wp', 'async', 'more', 'huge', 'hugetlb', 'hugetlb-async', 'moved'])('does as recorded: %s', (name) => {
  const recorded = scriptLines(readFileSync(new URL(`testdata/userfault-${name}.txt`, import.meta.url), 'utf8'));
  const machine = boot({ memory: '1G', cpus: 2, cmdline: 'transparent_hugepage=madvise' });
  const seen = runMemoryScript(machine, recorded);
  expect(seen.map(withoutSoftDirty)).toEqual(recorded.map(withoutSoftDirty));
  machine.validate();
});

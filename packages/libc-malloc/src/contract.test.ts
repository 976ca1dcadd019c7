/// <reference types="node" />
import { readFileSync } from 'node:fs';
import { SMASHES, mallocContract } from './contract.ts';
import type { Smash, SmashOutcome } from './contract.ts';
import type { Malloc, MallocOs } from './malloc.ts';
import { mallocs, mimalloc } from './registry.ts';
import { FlatOs } from './testing/flat-os.ts';

// A soak run: MALLOC_OPERATIONS=10000000 npx vitest run packages/libc-malloc/src/contract.test.ts -t random
const operations = Number(process.env['MALLOC_OPERATIONS'] ?? 12_000);

const allocators: Readonly<Record<string, (os: MallocOs) => Malloc>> = {
  ...mallocs,
  'mimalloc, secure': (os) => mimalloc(os, { secure: true }),
};

/** How smashed heaps end, from the README's table: by allocator, then by what is done. */
function documentedSmashes(): Record<string, Partial<Record<Smash, SmashOutcome>>> {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const rows = [...readme.matchAll(/^\| (.+) \|$/gm)].map(([, cells]) => cells.split(' | '));
  const names = rows.find(([first]) => first === 'what is done')!.slice(1);
  const documented: Record<string, Partial<Record<Smash, SmashOutcome>>> = {};
  names.forEach((name, column) => {
    const outcomes = rows.filter(([smash]) => (SMASHES as readonly string[]).includes(smash));
    documented[name] = Object.fromEntries(outcomes.map(([smash, ...cells]) => [smash, cells[column] as SmashOutcome]));
  });
  return documented;
}

const documented = documentedSmashes();
for (const [name, create] of Object.entries(allocators)) {
  if (Object.keys(documented[name]).length !== SMASHES.length) throw new Error(`the README does not tell all of ${name}`);
  mallocContract(
    ({ memoryBytes }) => {
      const os = new FlatOs({ heapBytes: memoryBytes / 2, areaBytes: memoryBytes / 2 });
      return { malloc: create(os), os };
    },
    { name, operations, neverReuses: name === 'bump', smashes: documented[name] },
  );
}

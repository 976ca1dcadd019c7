/**
 * The recorded cases, all of them, each on a machine of its own. `not-yet.txt` beside them names those whose mechanism is
 * still to come: a case that fails and is not named there fails the test, and so does one that is named there and passes.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseMachineConfig } from '@pagelab/kernel';
import { describe, expect, it } from 'vitest';
import { readCases, verifyCases } from '../commands/verify.ts';

const data = fileURLToPath(new URL('../../../../test/data/conformance/', import.meta.url));
const notYet = new Set(
  readFileSync(`${data}not-yet.txt`, 'utf8').split('\n').filter((line) => line !== '' && !line.startsWith('#')),
);
const config = parseMachineConfig({ memory: '3G', cpus: 2 });

for (const file of ['cases.json.gz', 'random.json.gz']) {
  const cases = readCases(`${data}${file}`);
  const areas = [...new Set(cases.map(({ area }) => area))];

  describe(file, () => {
    it.each(areas)('area %s', (area) => {
      const wrong: string[] = [];
      for (const { id, failure } of verifyCases(cases.filter((testCase) => testCase.area === area), config)) {
        if (failure !== null && !notYet.has(id)) wrong.push(`${id}: ${failure}`);
        if (failure === null && notYet.has(id)) wrong.push(`${id} passes: take it out of not-yet.txt`);
      }
      expect(wrong).toEqual([]);
    }, 120_000);
  });
}

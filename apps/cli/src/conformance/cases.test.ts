/**
 * The recorded cases, all of them, each on a machine of its own.
 */
import { fileURLToPath } from 'node:url';
import { parseMachineConfig } from '@pagelab/kernel';
import { describe, expect, it } from 'vitest';
import { readCases, verifyCases } from '../commands/verify.ts';

const data = fileURLToPath(new URL('../../../../test/data/conformance/', import.meta.url));
const config = parseMachineConfig({ memory: '3G', cpus: 2 });

for (const file of ['cases.json.gz', 'random.json.gz']) {
  const cases = readCases(`${data}${file}`);
  const areas = [...new Set(cases.map(({ area }) => area))];

  describe(file, () => {
    it.each(areas)('area %s', (area) => {
      const results = [...verifyCases(cases.filter((testCase) => testCase.area === area), config)];
      expect(results.filter(({ failure }) => failure !== null)).toEqual([]);
    }, 120_000);
  });
}

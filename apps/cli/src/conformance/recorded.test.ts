/**
 * Random sequences of calls and accesses, and the short ones that showed differences once, each step with what a real
 * kernel did (`tools/recorders` made them), on a machine of their own each. None may differ.
 */
import { fileURLToPath } from 'node:url';
import { parseMachineConfig } from '@pagelab/kernel';
import { describe, expect, it } from 'vitest';
import { readCases, verifyCases } from '../commands/verify.ts';

const data = fileURLToPath(new URL('../../../../test/data/conformance/', import.meta.url));
const config = parseMachineConfig({ memory: '3G', cpus: 2 });
const cases = ['sequences', 'tasks', 'memory', 'variations', 'arguments', 'findings', 'shmem'].flatMap((name) => readCases(`${data}recorded-${name}.json.gz`));

describe('recorded sequences', () => {
  it.each([...new Set(cases.map(({ area }) => area))])('%s', (area) => {
    const wrong: string[] = [];
    for (const { id, failure } of verifyCases(cases.filter((testCase) => testCase.area === area), config)) {
      if (failure !== null) wrong.push(`${id}: ${failure}`);
    }
    expect(wrong).toEqual([]);
  }, 120_000);
});

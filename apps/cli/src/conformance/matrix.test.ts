/**
 * System calls with good and bad arguments, each in the same prepared state, against what a real kernel made of them
 * (`tools/recorders/matrix` recorded it): results, errors, and all that a call left otherwise. None may differ.
 *
 * MATRIX_STEP=1 runs all rows; without, one in many.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { boot } from '@pagelab/kernel';
import { expect, test } from 'vitest';
import { MatrixRun } from './matrix.ts';
import type { Matrix } from './matrix.ts';

const file = fileURLToPath(new URL('../../../../test/data/conformance/matrix.json.gz', import.meta.url));
const step = Number(process.env.MATRIX_STEP ?? 41);

test('calls do with their arguments what Linux does', () => {
  const matrix = JSON.parse(gunzipSync(readFileSync(file)).toString('utf8')) as Matrix;
  const machine = boot({ memory: '3G', cpus: 2 });
  const { rows, differences } = new MatrixRun(machine, matrix).run(step);
  expect(differences).toEqual([]);
  expect(rows).toBeGreaterThan(20_000 / step);
  machine.validate();
}, 600_000);

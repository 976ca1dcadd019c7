import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { tourText } from './tour.ts';

it('the tour is what happens', () => {
  expect(tourText()).toBe(readFileSync(new URL('../../docs/tour.md', import.meta.url), 'utf8'));
});

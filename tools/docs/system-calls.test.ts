import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { systemCallsText } from './system-calls.ts';

it('the page of system calls is what the tables say', () => {
  expect(readFileSync(new URL('../../docs/system-calls.md', import.meta.url), 'utf8')).toBe(systemCallsText());
});

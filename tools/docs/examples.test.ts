import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { examplesPage, summaryOf } from './examples.ts';

describe('the page of examples', () => {
  it('says what an example says of itself in its first sentence', () => {
    expect(summaryOf('/**\n * Swap: a program that stores to more memory than\n * there is. And more.\n */\nimport')).toBe('Swap: a program that stores to more memory than there is.');
    expect(summaryOf('/**\n * High memory. A kernel of 32 bits has a GiB. And more.\n *\n * Else.\n */')).toBe('High memory. A kernel of 32 bits has a GiB.');
  });

  it('is up to date, and each example says what it shows', () => {
    const page = examplesPage();
    expect(readFileSync(new URL('../../examples/README.md', import.meta.url), 'utf8')).toBe(page);
    for (const [, , shows] of page.matchAll(/^\| \[([\w-]+)\]\([^)]*\) \| (.*) \|$/gm)) expect(shows!.length).toBeGreaterThan(30);
  });
});

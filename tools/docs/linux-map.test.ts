import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { entriesOf, linuxMap } from './linux-map.ts';

describe('the Linux map', () => {
  it('finds the tags of exports and of their members', () => {
    const text = `
      /** Frees. @linux mm/slub.c:kfree */
      export function kfree(): void {}
      /** @linux mm/secret.c */
      function hidden(): void {}
      export class Zone {
        /** @linux mm/page_alloc.c:zone_watermark_ok */
        watermarkOk(): void {}
      }`;
    expect(entriesOf(text, 'a.ts').map(({ name, models }) => [name, models])).toEqual([
      ['kfree', 'mm/slub.c:kfree'],
      ['Zone.watermarkOk', 'mm/page_alloc.c:zone_watermark_ok'],
    ]);
  });

  it('is up to date', () => {
    expect(readFileSync(new URL('../../docs/linux-map.md', import.meta.url), 'utf8')).toBe(linuxMap());
  });
});

import { afterEach, describe, expect, it, vi } from 'vitest';
import { PAGE_SIZE, PAGE_WORDS } from './page.ts';
import { pageOps } from './page-ops.ts';
import { reserveBuffer } from './platform.ts';

const PAGES = 16;

/** A buffer whose every word is its own number and no other's. */
function filled(buffer: ArrayBuffer): Uint32Array {
  const words = new Uint32Array(buffer, 0, PAGES * PAGE_WORDS);
  for (let i = 0; i < words.length; i++) words[i] = 0x8000_0000 + i;
  return words;
}

afterEach(() => vi.restoreAllMocks());

describe.each([
  ['in the memory of WebAssembly', () => reserveBuffer(PAGES * PAGE_SIZE)],
  ['in an ordinary buffer', () => new ArrayBuffer(PAGES * PAGE_SIZE)],
])('pages %s', (_, buffer) => {
  it('are cleared and copied, and nothing beside them', () => {
    const words = filled(buffer());
    const expected = Uint32Array.from(words);
    const ops = pageOps(words.buffer as ArrayBuffer);
    ops.zero(3 * PAGE_SIZE);
    expected.fill(0, 3 * PAGE_WORDS, 4 * PAGE_WORDS);
    ops.copy(7 * PAGE_SIZE, 12 * PAGE_SIZE);
    expected.copyWithin(7 * PAGE_WORDS, 12 * PAGE_WORDS, 13 * PAGE_WORDS);
    ops.copy(5 * PAGE_SIZE, 5 * PAGE_SIZE);
    expect(words).toEqual(expected);
  });
});

describe('page operations', () => {
  it('reach beyond 2 GiB by negative numbers', () => {
    const buffer = reserveBuffer(2 ** 31 + 2 * PAGE_SIZE);
    const words = new Uint32Array(buffer);
    words[2 ** 29] = 7;
    const ops = pageOps(buffer);
    ops.copy(PAGE_SIZE, 2 ** 31 | 0);
    expect(words[PAGE_WORDS]).toBe(7);
    ops.zero(2 ** 31 | 0);
    expect(words[2 ** 29]).toBe(0);
  });

  it('do without WebAssembly where nothing may be compiled', () => {
    const { WebAssembly } = globalThis as unknown as { WebAssembly: { Module: unknown } };
    const buffer = reserveBuffer(PAGE_SIZE);
    vi.spyOn(WebAssembly as { Module: () => void }, 'Module').mockImplementation(function refuse() {
      throw new Error('refused to compile');
    });
    const words = new Uint32Array(buffer);
    words[5] = 1;
    pageOps(buffer).zero(0);
    expect(words[5]).toBe(0);
  });
});

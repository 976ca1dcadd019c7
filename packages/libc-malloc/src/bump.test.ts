import { describe, expect, it } from 'vitest';
import { Bump } from './bump.ts';
import { FlatOs } from './testing/flat-os.ts';

describe('bump', () => {
  it('lays blocks side by side and gives the last one back', () => {
    const os = new FlatOs();
    const malloc = new Bump(os);
    const first = malloc.malloc(20);
    const second = malloc.malloc(20);
    expect(second - first).toBe(48);
    malloc.free(second);
    expect(malloc.malloc(100)).toBe(second);
    malloc.free(first);
    expect(malloc.malloc(20)).toBeGreaterThan(second);
  });

  it('grows the last block in place and copies any other', () => {
    const os = new FlatOs();
    const malloc = new Bump(os);
    const first = malloc.malloc(20);
    const second = malloc.malloc(20);
    expect(malloc.realloc(second, 5000)).toBe(second);
    os.mem.fill(first, 20, 7);
    const moved = malloc.realloc(first, 100);
    expect(moved).toBeGreaterThan(second);
    expect(os.mem.findNot(moved, 20, 7)).toBe(-1);
    malloc.validate();
  });

  it('asks for memory in big steps', () => {
    const os = new FlatOs();
    const start = os.sbrk(0);
    const malloc = new Bump(os, { step: 65_536 });
    expect(os.sbrk(0) - start).toBe(65_536);
    malloc.malloc(200_000);
    expect((os.sbrk(0) - start) % 65_536).toBe(0);
    expect(malloc.mallinfo2().arena).toBe(os.sbrk(0) - start);
  });

  it('goes on behind a gap where someone else moved the break', () => {
    const os = new FlatOs();
    const malloc = new Bump(os, { step: 4096 });
    const last = malloc.malloc(3000);
    const theirs = os.sbrk(100);
    os.mem.fill(theirs, 100, 9);
    const moved = malloc.realloc(last, 6000);
    expect(moved).toBeGreaterThanOrEqual(theirs + 100);
    os.mem.fill(moved, 6000, 1);
    expect(os.mem.findNot(theirs, 100, 9)).toBe(-1);
    malloc.validate();
  });
});

import { describe, expect, it } from 'vitest';
import { glibcTunables } from './tunables.ts';

const tunables = (text: string): unknown => glibcTunables({ GLIBC_TUNABLES: text });

describe('glibcTunables', () => {
  // As the real library's thread cache took them.
  it.each([
    ['3', 3],
    ['0x3', 3],
    ['010', 8],
    [' 5', 5],
    ['+4', 4],
    ['3x', 3],
    ['x', 0],
    ['', 0],
    ['4=5', 4],
  ])('reads %j as %d', (text, tcacheCount) => {
    expect(tunables(`glibc.malloc.tcache_count=${text}`)).toEqual({ tcacheCount });
  });

  it('takes several, the last one of a name, and passes over what it does not know', () => {
    expect(tunables('glibc.malloc.mxfast=16:bogus:glibc.malloc.foo=1:glibc.rtld.nns=4:glibc.malloc.mxfast=32')).toEqual({
      mxfast: 32,
    });
    expect(tunables('glibc.malloc.arena_max=2:glibc.malloc.top_pad=4096')).toEqual({ arenaMax: 2, topPad: 4096 });
  });

  it('leaves out what is out of range', () => {
    expect(tunables('glibc.malloc.perturb=256:glibc.malloc.arena_max=0:glibc.malloc.mmap_max=-1')).toEqual({});
  });

  it('takes the older variables, which count less', () => {
    const environment = { MALLOC_ARENA_MAX: '1', MALLOC_TOP_PAD_: '65536', GLIBC_TUNABLES: 'glibc.malloc.arena_max=3' };
    expect(glibcTunables(environment)).toEqual({ arenaMax: 3, topPad: 65_536 });
    expect(glibcTunables({})).toEqual({});
  });
});

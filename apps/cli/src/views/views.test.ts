import { describe, expect, test } from 'vitest';
import { boot } from '@pagelab/kernel';
import { formatSlabtop, parseSlabinfo, sortRows } from './slabtop.ts';
import { formatVmstat, readVmstat } from './vmstat.ts';

const SLABINFO = `slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>
dentry            3990   4200    192   21    1 : tunables    0    0    0 : slabdata    200    200      0
task_struct          4      9   8448    3    8 : tunables    8    4    0 : slabdata      2      3      0
bio-312              0      0    320   12    1 : tunables    0    0    0 : slabdata      0      0      0
`;

describe('slabtop', () => {
  test('prints what procps does', () => {
    const rows = parseSlabinfo(SLABINFO);
    expect(formatSlabtop(sortRows(rows, 'o'), rows.length)).toBe(
      ` Active / Total Objects (% used)    : 3994 / 4209 (94.9%)
 Active / Total Slabs (% used)      : 202 / 203 (99.5%)
 Active / Total Caches (% used)     : 2 / 3 (66.7%)
 Active / Total Size (% used)       : 781.13K / 861.75K (90.6%)
 Minimum / Average / Maximum Object : 0.19K / 0.20K / 8.25K

  OBJS ACTIVE  USE OBJ SIZE  SLABS OBJ/SLAB CACHE SIZE NAME
  4200   3990  95%    0.19K    200       21       800K dentry
     9      4  44%    8.25K      3        3        96K task_struct`,
    );
  });

  test('sorts by any of its keys', () => {
    const first = (key: string): string => sortRows(parseSlabinfo(SLABINFO), key)[0]!.name;
    expect(['a', 'b', 'c', 'l', 'o', 'u'].map(first)).toEqual(Array.from({ length: 6 }, () => 'dentry'));
    expect(['p', 's'].map(first)).toEqual(['task_struct', 'task_struct']);
    expect(first('n')).toBe('dentry');
  });

  test('shows every cache of a machine that has objects', () => {
    const machine = boot({ memory: '256M' });
    const rows = parseSlabinfo(machine.readFile('/proc/slabinfo'));
    const text = formatSlabtop(sortRows(rows, 'c'), rows.length);
    for (const { name } of machine.stats().slabs) expect(text).toContain(` ${name}`);
  });
});

test('vmstat counts from one sample to the next', () => {
  const machine = boot({ memory: '256M' });
  const sample = () => readVmstat((path) => machine.readFile(path), machine.now);
  const before = sample();
  let during = before;
  machine.run((os) => {
    os.mem.fill(os.sbrk(100 * 4096), 100 * 4096, 1);
    during = sample();
  });
  expect(before.free - during.free).toBeGreaterThanOrEqual(400);
  const [, columns, first, second] = formatVmstat([before, during]).split('\n');
  expect(columns!.trim().split(/ +/)).toEqual(['swpd', 'free', 'buff', 'cache', 'si', 'so', 'bi', 'bo', 'minor', 'major', 'cs']);
  expect(first!.trim().split(/ +/)[1]).toBe(String(before.free));
  expect(Number(second!.trim().split(/ +/)[8])).toBeGreaterThanOrEqual(100);
});

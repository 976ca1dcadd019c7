import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync, gzipSync } from 'node:zlib';
import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { runCli } from './testing/run-cli.ts';

const directory = mkdtempSync(join(tmpdir(), 'pagelab-test-'));
afterAll(() => rmSync(directory, { recursive: true }));

const data = fileURLToPath(new URL('../../../test/data/', import.meta.url));

function file(name: string, content: string | Uint8Array): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

/** What a user must get of a failure: one line on standard error, and the status. */
function expectOneLine({ status, stderr }: { status: number | null; stderr: string }, exitStatus: number, line: RegExp): void {
  expect(stderr.trimEnd().split('\n')).toEqual([expect.stringMatching(line)]);
  expect(status).toBe(exitStatus);
}

describe('pagelab run', () => {
  it('runs a program of the user\'s, arguments and all', () => {
    const program = file('hello.ts', "import type { Os } from '@pagelab/abi';\nexport default (os: Os, who: string): void => os.print(`hello ${who}`);\n");
    const { status, stdout } = runCli('run', program, 'world');
    expect(stdout).toMatch(/^hello world\n/);
    expect(stdout).toMatch(/faults +0/);
    expect(status).toBe(0);
  });

  it('runs a generator', () => {
    const program = file('generator.js', "export default function* (os) { yield; os.print('back'); }\n");
    expect(runCli('run', program)).toMatchObject({ status: 0, stdout: expect.stringMatching(/^back\n/) as string });
  });

  it('gives the report as JSON', () => {
    const { stdout } = runCli('run', 'demand-paging', '--json');
    const report = JSON.parse(stdout) as { status: number; faults: number; memory: { end: { sizes: { residentPeakKb: number } } } };
    expect(report).toMatchObject({ program: 'demand-paging', status: 0, faults: 384 });
    expect(report.memory.end.sizes.residentPeakKb).toBe(512);
  });

  it.each([
    ['a syntax error', 'export default function (os) { let x = ; }', 1, /^pagelab: .*:1:40: Unexpected ";"$/],
    ['no program in it', 'export const x = 1;', 1, /exports no program/],
    ['a wild store', 'export default (os) => os.mem.store8(0x1234, 1);', 1, /Segmentation fault .*segfault at 1234/],
    ['an endless allocation', 'export default (os) => { for (;;) os.mem.fill(os.mmap(0, 1 << 20, 3, 0x22), 1 << 20, 1); };', 1, /Out of memory: Killed process/],
    ['a failed call', 'export default (os) => { os.munmap(1, 1); };', 1, /EINVAL: munmap/],
    ['an exit status of its own', 'export default () => 3;', 1, /exit status 3/],
    ['an error thrown', "export default () => { throw new TypeError('oops'); };", 1, /TypeError: oops/],
  ])('says in one line what is wrong with %s', (name, text, status, line) => {
    expectOneLine(runCli('run', file(`${name.replaceAll(' ', '-')}.js`, text), '--machine', 'tiny'), status, line);
  });

  it('names what is missing', () => {
    expectOneLine(runCli('run', 'no-such-program'), 2, /no program 'no-such-program'.*demand-paging/);
    expectOneLine(runCli('run', 'demand-paging', '--machine', 'no-such-machine'), 2, /no machine 'no-such-machine'.*tiny/);
    const machine = file('machine.json', '{ "memory": "3G", "cpu": 2 }');
    expectOneLine(runCli('run', 'demand-paging', '--machine', machine), 2, /machine\.json: .*cpu/);
  });
});

describe('the views', () => {
  it('show processes, memory, caches and free blocks at the end of a program', () => {
    expect(runCli('ps', 'leak').stdout).toMatch(/^ +PID .* COMMAND\n +\d+ +1 R +1 +\d+ +740 .* leak\n$/);
    expect(runCli('vmstat', 'leak').stdout.trimEnd().split('\n')).toHaveLength(4);
    expect(runCli('slabtop', 'leak', '--sort', 's').stdout).toMatch(/CACHE SIZE NAME\n.* task_struct\n/);
    const zones = JSON.parse(runCli('buddyinfo', 'leak', '--json').stdout) as { zone: string; freeBlocks: number[] }[];
    expect(zones.map(({ zone, freeBlocks }) => [zone, freeBlocks.length])).toEqual([['DMA', 11], ['DMA32', 11]]);
    const wrong = runCli('slabtop', 'leak', '--sort', 'q');
    expect(wrong.status).toBe(2);
    expect(wrong.stderr).toContain('--sort takes one of a, b, c');
  });
});

describe('pagelab insmod', () => {
  it('runs kernel code and shows what the log says, an example\'s and a user\'s', () => {
    const { status, stdout } = runCli('insmod', 'kmemleak');
    expect(stdout).toMatch(/unreferenced object 0xffff[^]*backtrace \(crc [0-9a-f]+\):\n\[[^\]]*\] {5}queue_request \[kmemleak\]\n/);
    expect(status).toBe(0);
    const module = file('areas.js', "export default (kernel) => kernel.printk(`at ${kernel.vmalloc(1) < 0 ? 'the top' : 'the bottom'}`);\n");
    const report = JSON.parse(runCli('insmod', module, '--json').stdout) as { log: string[]; leaks: unknown[]; oops: null };
    expect(report).toMatchObject({ log: [expect.stringMatching(/at the top$/)], leaks: [], oops: null });
    const leaking = file('leaking.js', "export default (kernel) => void kernel.call('forget', () => kernel.kzalloc(40));\n");
    expect(runCli('insmod', leaking, '--kmemleak').stdout).toMatch(/unreferenced object 0xffff\w+ \(size 64\):[^]*\n {4}forget \[leaking\]\n {4}init_module \[leaking\]\n$/);
  });

  it('says in one line what it did wrong', () => {
    const wild = runCli('insmod', file('wild.js', 'export default (kernel) => kernel.mem.store8(8, 1);\n'));
    expect(wild.stdout).toContain('#PF: supervisor write access in kernel mode');
    expectOneLine(wild, 1, /^pagelab: wild: BUG: kernel NULL pointer dereference, address: 0{15}8$/);
    expectOneLine(runCli('insmod', 'nothing'), 2, /^pagelab: no module 'nothing': give a \.ts or \.js file, or an example \(dma-bounce, /);
    expectOneLine(runCli('insmod', file('none.js', 'export const x = 1;')), 1, /exports no kernel code/);
  });
});

describe('pagelab page_owner', () => {
  it('counts who has pages', () => {
    const program = file('filler.js', 'export default (os) => os.mem.fill(os.mmap(0, 1 << 20, 3, 0x22), 1 << 20, 1);\n');
    const { stdout, status } = runCli('page_owner', program, '--json', '--machine', 'tiny');
    expect(status).toBe(0);
    const rows = JSON.parse(stdout) as { pages: number; mask: string; trace: string[] }[];
    expect(rows[0]!.pages).toBeGreaterThanOrEqual(rows[1]!.pages);
    expect(rows.some(({ mask, trace }) => mask.includes('GFP_HIGHUSER_MOVABLE') && trace.some((name) => /fault/i.test(name)))).toBe(true);
  });
});

describe('pagelab maps', () => {
  it('shows the mappings as the kernel does', () => {
    const { stdout } = runCli('maps', 'leak');
    expect(stdout.split('\n').filter((line) => / ---p /.test(line))).toHaveLength(100);
    expect(stdout).toMatch(/^7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0 +\[stack\]$/m);
  });
});

describe('pagelab replay', () => {
  const trace = join(data, 'traces', 'git-log.trace.gz');

  it('lands every block where glibc put it', () => {
    const { stdout, status } = runCli('replay', trace, '--malloc', 'glibc', '--addresses');
    expect(stdout).toBe(gunzipSync(readFileSync(join(data, 'traces', 'git-log.addresses.gz'))).toString());
    expect(status).toBe(0);
  });

  it('reports what memory did', () => {
    expect(runCli('replay', trace).stdout).toMatch(/8,650 events through glibc/);
  });

  it('takes an allocator of the user\'s', () => {
    const plugin = fileURLToPath(new URL('../../../examples/plugins/first-fit-malloc.ts', import.meta.url));
    expect(runCli('replay', trace, '--malloc', plugin)).toMatchObject({ status: 0 });
    expectOneLine(runCli('replay', trace, '--malloc', 'nomalloc'), 2, /no allocator 'nomalloc': give one of glibc, .*bump,/);
  });

  it('skips a broken line, or ends there', () => {
    const broken = file('broken.trace.gz', gzipSync('m 0 1 24\nm 0 x\nf 0 1\n'));
    const skipped = runCli('replay', broken);
    expect(skipped.stderr).toMatch(/broken\.trace\.gz:2: /);
    expect(skipped.status).toBe(0);
    expectOneLine(runCli('replay', broken, '--strict'), 1, /broken\.trace\.gz:2: /);
  });

  it('writes a page that needs nothing else', () => {
    const page = join(directory, 'page.html');
    expect(runCli('replay', trace, '--html', page)).toMatchObject({ status: 0 });
    const html = readFileSync(page, 'utf8');
    expect(html).toMatch(/<title>Replay of git-log\.trace\.gz<\/title>/);
    expect(html).toMatch(/Fragmentation over time/);
    expect(html).not.toMatch(/(src|href)=/);
    expectOneLine(runCli('replay', trace, '--html', join(directory, 'none', 'page.html')), 1, /cannot write/);
  });

  it('tells a trace by its content', () => {
    expect(runCli('replay', file('a.pages', 'R 4000 1\n'), '--policy', 'lru', '--frames', '1').stdout).toMatch(/1 accesses to 1 pages/);
    expect(runCli('replay', file('a.strace', 'brk(NULL) = 0x1000\n')).stdout).toMatch(/1 calls of 1 processes; 1 made again, 1 with a result as recorded/);
    expect(runCli('replay', file('mtrace.log', '= Start\n@ a:[0x1] + 0x10 0x8\n= End\n')).stdout).toMatch(/1 events through glibc/);
    expectOneLine(runCli('replay', file('a.txt', 'hello\n')), 1, /no trace that can be told/);
    expectOneLine(runCli('replay', join(directory, 'missing')), 2, /cannot read/);
  });
});

describe('pagelab verify', () => {
  const step = { op: 'mmap', as: 'A', len: 'PAGE', prot: 'RW', flags: 'PRIVATE|ANONYMOUS' };

  it('counts by area, names what differs, and fails if anything did', () => {
    const cases = file('cases.json', JSON.stringify([
      { id: 'good', area: 'mmap', steps: [step, { op: 'load8', at: 'A', expect: 0 }] },
      { id: 'bad', area: 'mmap', steps: [step, { op: 'load8', at: 'A', expect: 1 }] },
      { id: 'fault', area: 'stack', steps: [{ op: 'store8', at: 0, value: 1, expect: 'SIGSEGV/SEGV_MAPERR', fault_at: 0 }] },
      { id: 'unknown', area: 'stack', steps: [{ op: 'levitate' }] },
    ]));
    const { stdout, status } = runCli('verify', cases);
    expect(stdout.trimEnd().split('\n')).toEqual([
      expect.stringMatching(/^FAIL mmap bad: step 1 .*expected 1 \(0x1\), observed 0x0$/),
      expect.stringMatching(/^FAIL stack unknown: step 0 .*unknown operation 'levitate'$/),
      'mmap: 1 passed, 1 failed',
      'stack: 1 passed, 1 failed',
      '2 passed, 2 failed',
    ]);
    expect(status).toBe(1);
  });

  it('says what is wrong with a case file', () => {
    expectOneLine(runCli('verify', file('not.json', '{')), 1, /not\.json is not JSON/);
    expectOneLine(runCli('verify', file('object.json', '{}')), 1, /not a list of cases/);
  });
});

describe('pagelab bench', () => {
  it('measures both sides of a row', () => {
    const { stdout, status } = runCli('bench', 'mm-kmalloc', '--rounds', '1', '--json');
    const { rows } = JSON.parse(stdout) as { rows: { name: string; ours: number; theirs: number; met: boolean | null }[] };
    expect(rows).toEqual([expect.objectContaining({ name: 'mm-kmalloc', target: 'at most 8 ×' })]);
    expect(rows[0]!.ours).toBeGreaterThan(0);
    expect(rows[0]!.theirs).toBeGreaterThan(0);
    expect(status).toBe(0);
  });
});

describe('usage', () => {
  it('ends with status 2 where it is wrong, 0 where help was asked for', () => {
    expect(runCli('levitate').status).toBe(2);
    expect(runCli('run').status).toBe(2);
    expect(runCli('run', 'leak', '--levitate').status).toBe(2);
    expect(runCli('bench', 'levitation').status).toBe(2);
    expect(runCli('--help').status).toBe(0);
  });
});

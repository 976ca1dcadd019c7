/** Recorded boots, all of them; and that a number which is not what the kernel said is found. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import type { CaseResult } from '../conformance/run-case.ts';
import { runCli } from '../testing/run-cli.ts';
import { readPackedRecordings, recordingOf } from './recording.ts';
import type { Recording } from './recording.ts';
import { verifyBoot } from './verify-boot.ts';

const recordings = readPackedRecordings(fileURLToPath(new URL('../../../../test/data/boots/boots.json.br', import.meta.url)));
const find = (id: string): Recording => recordings.find((recording) => recording.id === id)!;
const failures = (results: readonly CaseResult[]): string[] =>
  results.filter(({ failure }) => failure !== null).map(({ area, id, failure }) => `${area} ${id}: ${failure}`);

/** A recording in which the first match in a file reads otherwise. */
function falsified(recording: Recording, file: string, pattern: RegExp, replacement: string): Recording {
  expect(recording.text(file)).toMatch(pattern);
  return recordingOf(recording.id, (name) => (name === file ? recording.text(name).replace(pattern, replacement) : recording.text(name)));
}

describe('recorded boots', () => {
  let checks = 0;

  it.each(recordings.map((recording) => [recording.id, recording] as const))('%s', (_, recording) => {
    const results = verifyBoot(recording);
    checks += results.length;
    expect(failures(results)).toEqual([]);
    expect(results.length).toBeGreaterThan(recording.config.arch === 'arm64' ? 350 : 800);
  });

  it('are 58, with a good 130,000 values', () => {
    expect(recordings.length).toBe(58);
    expect(checks).toBeGreaterThan(130_000);
  });
});

describe('a falsified number', () => {
  const numa = find('amd64-numa4-unequal-4cpu');
  const movable = find('amd64-numa2-kernelcore1g');
  const highmem = find('i386pae-2g-4cpu');
  const plain = find('amd64k612-1g-4cpu');
  const small = find('i386-256m-1cpu');
  const arm = find('arm64-numa2-cma64m-2g');
  const debugged = find('i386pae-slubdebug-fzpu-1g');

  it.each([
    ['start_pfn', numa, 'zoneinfo.txt', /start_pfn: +131072/, 'start_pfn:           131073', /^zones .*N1\.DMA32\.start_pfn: recorded 131073, computed 131072$/],
    ['present', highmem, 'zoneinfo.txt', /present +3998/, 'present  3999', /^zones .*N0\.DMA\.present: recorded 3999, computed 3998$/],
    ['spanned', plain, 'zoneinfo.txt', /spanned +4095/, 'spanned  4094', /^zones .*N0\.DMA\.spanned: recorded 4094, computed 4095$/],
    ['managed', plain, 'zoneinfo.txt', /managed +3840/, 'managed  3841', /^managed .*N0\.DMA\.managed: recorded 3841, computed 3840$/],
    ['a watermark', plain, 'zoneinfo.txt', /(low +\d*)(\d)\n/, '$10$2\n', /^watermarks .*as booted: N0\.DMA\.low: /],
    ['a line', plain, 'zoneinfo.txt', /nr_zspages/, 'nr_zpages', /^lines .*zoneinfo: line \d+: recorded ' {6}nr_zpages #', computed ' {6}nr_zspages #'$/],
    ['a watermark after a write', highmem, 'sysctl-2-wsf200.zones.txt', /high +(\d+)/, 'high     1$1', /^watermarks .*2-wsf200: N0\.DMA\.high: /],
    ['a protection', numa, 'sysctl-4-lowmemratio.zones.txt', /protection: \(0, (\d+)/, 'protection: (0, 1$1', /^protection .*4-lowmemratio: N0\.DMA: /],
    ['a batch', numa, 'sysctl-7-minfree-doubled.zones.txt', /batch: 63/, 'batch: 64', /^per-CPU lists .*cpu0\.batch: recorded 64, computed 63$/],
    ['a high', highmem, 'sysctl-3-pcphighfraction8.zones.txt', /high: +(\d+)/, 'high:  1$1', /^per-CPU lists .*cpu0\.high: /],
    ['where a CMA region lies', arm, 'dmesg.txt', /0x00000000baa00000/, '0x00000000bac00000', /^cma .*region: recorded '64 MiB at 0x00000000bac00000', computed '64 MiB at 0x00000000baa00000'$/],
    ['what it takes of a zone', arm, 'zoneinfo.txt', /cma +16384/, 'cma      16385', /^zones .*N1\.DMA\.cma: recorded 16385, computed 16384$/],
    ['a threshold', highmem, 'sysctl-8-minfree-halved.zones.txt', /threshold: (\d+)/, 'threshold: 1$1', /^stats threshold .*8-minfree-halved: N0\.DMA\.cpu0: /],
    ['min_free_kbytes', plain, 'sysctl-vm.txt', /min_free_kbytes = 45056/, 'min_free_kbytes = 45057', /^min_free_kbytes .*as booted: recorded 45057, computed 45056$/],
    ['min_free_kbytes after a write', numa, 'sysctl-responses.txt', /(5-thp-never .*= )(\d+)/, '$11$2', /^min_free_kbytes .*5-thp-never: /],
    ['a fallback order', numa, 'dmesg.txt', /(Fallback order for Node 0: 0 )(\d) (\d)/, '$1$3 $2', /^fallback order .*node 0: recorded '0 \d \d \d', computed '0 \d \d \d'$/],
    ['a start of movable memory', movable, 'dmesg.txt', /Node 1: 0x0000000060000000/, 'Node 1: 0x0000000060400000', /^movable start .*node 1: recorded 394240, computed 393216$/],
    ['a distance', numa, 'nodes.txt', /distance = 10 15/, 'distance = 10 16', /^nodes .*node0\/distance: /],
    ['the size of a cache of the machine', small, 'slab-sysfs.tsv', /(\ndentry\t-\t128\t)128/, '$1136', /^slab .*: dentry\.slab_size: recorded 136, computed 128$/],
    ['an order of one', small, 'slab-sysfs.tsv', /(\nmm_struct\t-\t564\t576\t14\t)1/, '$12', /^slab .*: mm_struct\.order: recorded 2, computed 1$/],
    ['the objects of a debugged slab', debugged, 'slab-sysfs.tsv', /(\nfilp\t-\t160\t\d+\t)(\d+)/, '$11', /^slab .*: filp\.objs_per_slab: recorded 1, computed \d+$/],
    ['the bytes of an object', small, 'slab-sysfs.tsv', /(\ntask_struct\t-\t)5128/, '$15136', /^slab .*: task_struct\.object_size: recorded 5136, computed 5128$/],
    ['who shares whose slabs', small, 'slab-sysfs.tsv', /(\nvm_area_struct\t):A-0000072/, '$1:A-0000080', /^slab .*: vm_area_struct\.link: recorded ':A-0000080', the machine has no such cache$/],
    ['a kmalloc cache', highmem, 'slab-sysfs.tsv', /(\nkmalloc-8k\t\S+\t8192\t8192\t4\t)3/, '$12', /^slab .*: kmalloc-8k\.order: recorded 2, computed 3$/],
    ['a line of slabinfo', small, 'slabinfo.txt', /(\ndentry +\d+ +\d+ +)128/, '$1136', /^slab .*: slabinfo dentry\.objsize: recorded 136, computed 128$/],
    ['the size of another cache', plain, 'slab-sysfs.tsv', /(\nTCP\t-\t\d+\t)(\d+)/, '$18', /^slab layouts .*: TCP\.slab_size: recorded 8, computed \d+$/],
    ['how far units of per-CPU memory are apart', plain, 'dmesg.txt', /(percpu: Embedded .* u)524288/, '$1262144', /^per-CPU memory .*percpu: Embedded: recorded '66 pages.* u262144', computed '66 pages.* u524288'$/],
    ['CommitLimit', plain, 'meminfo.txt', /(CommitLimit: +)(\d+)/, '$11', /^meminfo .*CommitLimit: recorded 1, computed \d+$/],
    ['MemAvailable', plain, 'meminfo.txt', /(MemAvailable: +)(\d+)/, '$11', /^meminfo .*MemAvailable: recorded 1, computed \d+$/],
  ] as const)('%s is found', (_, recording, file, pattern, replacement, failure) => {
    expect(failures(verifyBoot(falsified(recording, file, pattern, replacement)))).toContainEqual(expect.stringMatching(failure));
  });
});

describe('pagelab verify DIRECTORY…', () => {
  const directory = mkdtempSync(join(tmpdir(), 'pagelab-boots-'));
  afterAll(() => rmSync(directory, { recursive: true }));

  function unpack(recording: Recording, name: string, change: (file: string, text: string) => string = (_, text) => text): string {
    const path = join(directory, name);
    mkdirSync(path);
    for (const file of ['config.json', 'dmesg.txt', 'iomem.txt', 'zoneinfo.txt', 'sysctl-vm.txt', 'meminfo.txt', 'thp.txt', 'nodes.txt', 'slab-sysfs.tsv', 'slabinfo.txt', 'vmstat.txt', 'pagetypeinfo.txt', 'buddyinfo.txt']) {
      writeFileSync(join(path, file), change(file, recording.text(file)));
    }
    return path;
  }

  it('passes what was recorded, and says what it passes over', () => {
    const good = unpack(find('amd64-256m-4cpu'), 'good');
    const load = join(directory, 'load');
    mkdirSync(load);
    writeFileSync(join(load, 'config.json'), JSON.stringify({ ...find('amd64-256m-4cpu').config, kind: 'load', load: 'lumber' }));
    const { status, stdout } = runCli('verify', good, load, directory);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^SKIP load: a recording of the load "lumber", which is not done here yet\nSKIP .*: no recording: it has no config\.json\nzones: \d+ passed, 0 failed\n/);
    expect(stdout).toMatch(/\n2 directories skipped\n\d+ passed, 0 failed\n$/);
  });

  it('fails where one number is not what follows', () => {
    const bad = unpack(find('amd64-256m-4cpu'), 'bad', (file, text) => (file === 'zoneinfo.txt' ? text.replace(/present( +)3998/, 'present$13997') : text));
    const { status, stdout } = runCli('verify', bad);
    expect(status).toBe(1);
    expect(stdout.split('\n').filter((line) => line.startsWith('FAIL'))).toEqual(['FAIL zones bad: N0.DMA.present: recorded 3997, computed 3998', expect.stringMatching(/^FAIL managed bad: present - managed: /)]);
    expect(stdout).toMatch(/\n\d+ passed, 2 failed\n$/);
  });
});

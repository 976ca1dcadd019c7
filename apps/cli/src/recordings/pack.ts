/**
 * Packs the directories of recorded boots into the extract that the tests use:
 *
 *     node dist/recordings/pack.js OUT.json.br DIRECTORY…
 */
import { readdirSync, writeFileSync } from 'node:fs';
import { brotliCompressSync, constants } from 'node:zlib';
import { isRecording, readRecording } from './recording.ts';
import { architectureOf } from './recorded-machine.ts';

/** Files that are compared, or say what the machine was. */
const FILES = /^((\d\d-[\w-]+\.)?(vmstat|meminfo|zoneinfo|numastat)\.txt|events\.txt|samples\.tsv|config\.json|(buddyinfo|dmesg|iomem|meminfo|nodes|pagetypeinfo|slabinfo|sysctl-.*|thp|vmallocinfo|vmstat|zoneinfo)\.txt|slab-sysfs\.tsv)$/;
/** Lines of the log that are read. */
const LOG_LINES = /BIOS-e820|nr_cpu_ids|Fallback order|Node \d+: 0x|RAMDISK|Freeing .* memory|cma: Reserved|percpu: Embedded|software IO TLB/;
/** Columns of slab-sysfs.tsv that change from boot to boot. */
const FLEETING: readonly string[] = ['slabs', 'objects', 'partial', 'total_objects', 'slabs_cpu_partial'];

function trim(name: string, text: string): string {
  if (name === 'dmesg.txt') return text.split('\n').filter((line) => LOG_LINES.test(line)).join('\n');
  if (name !== 'slab-sysfs.tsv') return text;
  const rows = text.trimEnd().split('\n').map((line) => line.split('\t'));
  const kept = rows[0]!.flatMap((column, i) => (FLEETING.includes(column) ? [] : [i]));
  return rows.map((row) => kept.map((i) => row[i]).join('\t')).join('\n');
}

const [out, ...directories] = process.argv.slice(2);
const packed: Record<string, Record<string, string>> = {};
for (const directory of directories) {
  if (!isRecording(directory)) continue;
  const recording = readRecording(directory);
  if (architectureOf(recording) === undefined) continue;
  // Of arm64 only what concerns zones is compared.
  const isCompared = (name: string): boolean => FILES.test(name) && !(architectureOf(recording) === 'arm64' && /^(slab|vmstat)/.test(name));
  const names = readdirSync(directory).filter(isCompared).sort();
  packed[recording.id] = Object.fromEntries(names.map((name) => [name, trim(name, recording.text(name))]));
}
const bytes = Buffer.from(JSON.stringify(packed));
const params = { [constants.BROTLI_PARAM_LGWIN]: 24, [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length };
writeFileSync(out!, brotliCompressSync(bytes, { params }));

/**
 * `docs/system-calls.md`: the system calls there are, and what each takes. Generated from the tables that the calls check
 * their arguments against.
 *
 *     tsx --conditions=source tools/docs/system-calls.ts
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Syscall } from '@pagelab/abi';
import { callNotes, syscallFlags, syscallHandlers } from '@pagelab/syscalls';
import type { FlagRow, FlagTable } from '@pagelab/syscalls';

const output = fileURLToPath(new URL('../../docs/system-calls.md', import.meta.url));

const SUPPORT: Readonly<Record<FlagRow['effect'], string>> = { acts: 'yes', ignored: 'taken, no effect', refused: 'no' };

const escape = (text: string): string => text.replaceAll('|', '\\|');

function flagSection(table: FlagTable): string[] {
  const hex = (value: number): string => `0x${(value >>> 0).toString(16)}`;
  return [
    '',
    `### ${table.syscall}: \`${table.argument}\``,
    '',
    ...(table.unknown === undefined ? [] : [`${table.unknown}`, '']),
    '| flag | value | supported | where it differs |',
    '| --- | --- | --- | --- |',
    ...table.flags.map(
      ({ name, value, effect, note, since }) =>
        `| \`${name}\` | ${table.kind === 'bits' ? hex(value) : value} | ${SUPPORT[effect]}${since === undefined ? '' : `, since ${since}`} | ${escape(note ?? '')} |`,
    ),
  ];
}

/** The page's text. */
export function systemCallsText(): string {
  const calls = (Object.entries(Syscall) as [keyof typeof Syscall, number][]).sort(([, a], [, b]) => a - b);
  const there = calls.filter(([name]) => syscallHandlers[name] !== undefined);
  const missing = calls.filter(([name]) => syscallHandlers[name] === undefined);
  const lines = [
    '# System calls',
    '',
    'Numbers are those of x86-64, behaviour is that of Linux 6.18. A number that is not in this table is `ENOSYS`. Generated from',
    'the tables that the calls check their arguments against, by `npm run docs`; edit those.',
    '',
    '| number | call | where it differs |',
    '| --- | --- | --- |',
    ...there.map(([name, nr]) => {
      const link = syscallFlags.some(({ syscall }) => syscall === name) ? `[\`${name}\`](#flags)` : `\`${name}\``;
      return `| ${nr} | ${link} | ${escape(callNotes[name] ?? '')} |`;
    }),
    '',
    '## Not there',
    '',
    'These have a number and return `ENOSYS`.',
    '',
    '| number | call | instead |',
    '| --- | --- | --- |',
    ...missing.map(([name, nr]) => `| ${nr} | \`${name}\` | ${escape(callNotes[name] ?? '')} |`),
    '',
    '## Flags',
    '',
    '"Taken, no effect" is Linux\'s own doing where nothing else is said. A machine of an older release (`kernel`: `6.12`, `6.1`) does not',
    'know what came since.',
  ];
  for (const table of [...syscallFlags].sort((a, b) => a.syscall.localeCompare(b.syscall))) lines.push(...flagSection(table));
  return `${lines.join('\n')}\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(output, systemCallsText());

/**
 * `examples/README.md`: what there is to run, and what each shows, generated from the examples' own first comments.
 *
 *     tsx tools/docs/examples.ts          writes it
 */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const examples = fileURLToPath(new URL('../../examples', import.meta.url));
const output = join(examples, 'README.md');

/** A sentence that is shorter only names the subject: the next belongs to it. */
const SHORT = 40;

/** The first sentence of a file's first comment; with the second where that only names the subject. */
export function summaryOf(text: string): string {
  const comment = /^\/\*\*\n([\s\S]*?)\n \*\//.exec(text)?.[1] ?? '';
  const [paragraph = ''] = comment.split('\n').map((line) => line.replace(/^ \*( |$)/, '')).join('\n').split('\n\n');
  const sentences = paragraph.replace(/\n/g, ' ').split(/(?<=[.?]) (?=[A-Z`])/);
  const [first = '', second = ''] = sentences;
  return first.length < SHORT ? `${first} ${second}`.trim() : first;
}

function rows(directory: string, link: string): string[] {
  return readdirSync(join(examples, directory))
    .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
    .sort()
    .map((file) => `| [${file.replace(/\.ts$/, '')}](${link}${file}) | ${summaryOf(readFileSync(join(examples, directory, file), 'utf8')).replaceAll('|', '\\|')} |`);
}

/** The page. */
export function examplesPage(): string {
  return [
    '# Examples',
    '',
    'One page each. Their output is in [expected](expected), and compared by the tests, which also run every program on machines of 32',
    'bits and of 1 TiB, and with every cache of kernel memory debugged. This page is generated: `npm run docs`.',
    '',
    '## Programs',
    '',
    '`npx pagelab run NAME` runs one and reports what memory did; `npx pagelab maps NAME` shows its mappings.',
    '',
    '| example | shows |',
    '| --- | --- |',
    ...rows('.', ''),
    '',
    '## Kernel code',
    '',
    '`npx pagelab insmod NAME` runs one and shows the kernel\'s log.',
    '',
    '| example | shows |',
    '| --- | --- |',
    ...rows('modules', 'modules/'),
    '',
    '## Parts of your own',
    '',
    'Allocators and policies from outside the packages, each with the contract suite of its kind: [plugging a part in](../docs/plugging-in.md).',
    '',
    '| example | what it is |',
    '| --- | --- |',
    ...rows('plugins', 'plugins/'),
    '',
  ].join('\n');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(output, examplesPage());

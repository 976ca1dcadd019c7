/** What the README shows is what happens. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { boot } from '@pagelab/kernel';
import { afterAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const blocks = [...readme.matchAll(/```(\w*)\n([\s\S]*?)```/g)].map(([, language, text]) => ({ language: language!, text: text! }));
const directory = mkdtempSync(join(tmpdir(), 'pagelab-readme-'));
afterAll(() => rmSync(directory, { recursive: true }));

function pagelab(...args: string[]): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, 'apps/cli/bin/pagelab.js'), ...args], { cwd: root, encoding: 'utf8' });
  return { status, output: stdout + stderr };
}

describe('the README', () => {
  it('shows what its program prints', () => {
    const program = blocks.find(({ text }) => text.startsWith('// first.ts'))!;
    const output = blocks.find(({ text }) => text.startsWith('mapped at'))!;
    const file = join(directory, 'first.ts');
    writeFileSync(file, program.text);
    const lines = pagelab('run', file).output.split('\n');
    for (const line of output.text.trim().split('\n')) expect(lines).toContainEqual(expect.stringContaining(line));
  });

  it('uses the library as it is', () => {
    const program = blocks.find(({ text }) => text.includes("from '@pagelab/kernel'"))!;
    const printed: unknown[] = [];
    // The import is what this file has; the rest runs as it stands.
    const body = program.text.replace(/^import .*\n/gm, '');
    // eslint-disable-next-line @typescript-eslint/no-implied-eval -- the README's own code
    const run = new Function('boot', 'console', body) as (start: typeof boot, console: unknown) => void;
    run(boot, { log: (...values: unknown[]) => printed.push(...values) });
    expect(printed.slice(0, 2)).toEqual([0, 1]);
    expect(printed[2]).toMatch(/^Node 0, zone/);
  });

  const commands = blocks.flatMap(({ language, text }) => (language === 'sh' ? text.split('\n') : [])).filter((line) => line.startsWith('npx pagelab'));
  it.each(commands)('%s', (command) => {
    expect(pagelab(...command.split(/\s+/).slice(2))).toMatchObject({ status: 0 });
  });

  it('links to what is there', () => {
    const links = [...readme.matchAll(/\]\(([^)#:]+)\)/g)].map(([, path]) => path!);
    expect(links.filter((path) => !existsSync(join(root, path)))).toEqual([]);
  });
});

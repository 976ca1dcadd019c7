import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ESLint } from 'eslint';
import { describe, expect, it } from 'vitest';
import { arrows } from './arrows.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));

async function importErrors(file: string, text: string): Promise<string[]> {
  const eslint = new ESLint({ cwd: root, ruleFilter: ({ ruleId }) => ruleId.endsWith('no-restricted-imports') });
  const [result] = await eslint.lintText(text, { filePath: `${root}${file}` });
  return result!.messages.filter(({ ruleId }) => ruleId !== null).map(({ message }) => message);
}

describe('import arrows', () => {
  it('know every package', () => {
    expect(readdirSync(`${root}packages`).sort()).toEqual(Object.keys(arrows).sort());
  });

  it.each(Object.entries(arrows))('%s depends on nothing else of the workspace', (name, allowed) => {
    const manifest = JSON.parse(readFileSync(`${root}packages/${name}/package.json`, 'utf8')) as Record<string, Record<string, string> | undefined>;
    const workspace = Object.keys(manifest.dependencies ?? {}).filter((dependency) => dependency.startsWith('@pagelab/'));
    expect(workspace.filter((dependency) => !allowed.includes(dependency.replace('@pagelab/', '')))).toEqual([]);
  });

  it('reject an import upwards', async () => {
    expect(await importErrors('packages/vm/src/index.ts', "import { boot } from '@pagelab/kernel';\nboot();\n")).toHaveLength(1);
    expect(await importErrors('packages/libc-malloc/src/index.ts', "import { Vm } from '@pagelab/vm';\nnew Vm();\n")).toHaveLength(1);
    expect(await importErrors('apps/cli/src/main.ts', "import { Vm } from '@pagelab/vm';\nnew Vm();\n")).toHaveLength(1);
  });

  it('reject what a package does not export, and Node in a package', async () => {
    expect(await importErrors('packages/kernel/src/index.ts', "import { x } from '@pagelab/vm/src/mmap';\nx();\n")).not.toHaveLength(0);
    expect(await importErrors('packages/vm/src/index.ts', "import { readFileSync } from 'node:fs';\nreadFileSync('a');\n")).toHaveLength(1);
  });

  it('let an import along the arrow through', async () => {
    expect(await importErrors('packages/kernel/src/index.ts', "import { Vm } from '@pagelab/vm';\nnew Vm();\n")).toEqual([]);
  });
});

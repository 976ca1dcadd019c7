import { describe, expect, it } from 'vitest';
import { withConstants } from './constants.mjs';

const modules: Record<string, Record<string, unknown>> = {
  './flags.js': { VM_READ: 1, VM_MERGEABLE: -2147483648, PROT: { READ: 1 }, vmFlag: 4 },
  '@pagelab/abi': { PAGE_SIZE: 4096, __GFP_ZERO: 256, TASK_SIZE: 2 ** 47 - 4096 },
};
const inline = (code: string): Promise<string> => withConstants(code, (specifier) => Promise.resolve(modules[specifier] ?? null));

describe('constants', () => {
  it('are put where their names were', async () => {
    const head = "import { VM_MERGEABLE, VM_READ as READ } from './flags.js';\nimport { PAGE_SIZE, TASK_SIZE, __GFP_ZERO } from '@pagelab/abi';\n";
    expect(await inline(`${head}f(READ | VM_MERGEABLE, -VM_MERGEABLE, \`\${PAGE_SIZE}\`);`)).toBe(
      `${head}f(1 | (-2147483648), -(-2147483648), \`\${4096}\`);`,
    );
    expect(await inline(`${head}switch (x) {\n  case __GFP_ZERO: return TASK_SIZE;\n}`)).toBe(
      `${head}switch (x) {\n  case 256: return 140737488351232;\n}`,
    );
    expect(await inline(`${head}PAGE_SIZE.toString();`)).toBe(`${head}(4096).toString();`);
  });

  it('stay names of members, of exports, and of what is no constant', async () => {
    const head = "import { PROT, VM_READ, vmFlag } from './flags.js';\n";
    const code = `${head}export { VM_READ };\nclass C { VM_READ = vmFlag; }\nuse(c.VM_READ, { VM_READ: PROT });`;
    expect(await inline(code)).toBe(code);
    expect(await inline(`${head}use({ VM_READ, vmFlag });`)).toBe(`${head}use({ VM_READ: 1, vmFlag });`);
  });

  it('of other packages are left alone', async () => {
    const code = "import { LIMIT } from 'elsewhere';\nuse(LIMIT);";
    expect(await inline(code)).toBe(code);
  });

  it('are not hidden by variables', async () => {
    await expect(inline("import { VM_READ } from './flags.js';\nfunction f(VM_READ) { return VM_READ; }")).rejects.toThrow("'VM_READ' is hidden");
  });
});

import js from '@eslint/js';
import { defineConfig, globalIgnores } from 'eslint/config';
import tseslint from 'typescript-eslint';
import { appArrows, arrows, exampleArrows, forbiddenTo, pluginArrows } from './tools/checks/arrows.mjs';

/** Lint errors for imports against the arrow. */
function importsOf(files, allowed, own, extra = []) {
  const patterns = [
    { group: ['@pagelab/*/src/*', '@pagelab/*/dist/*'], message: 'Import what a package exports, by its name.' },
    ...forbiddenTo(allowed, own).map((other) => ({
      group: [`@pagelab/${other}`, `@pagelab/${other}/*`],
      message: `The arrow does not lead there: ${own} may import ${allowed.join(', ') || 'nothing'}.`,
    })),
    ...extra,
  ];
  return { files, rules: { '@typescript-eslint/no-restricted-imports': ['error', { patterns }] } };
}

const noNode = { group: ['node:*'], message: 'Packages run in a browser too: no Node built-ins.' };

const restrictedSyntax = [
  { selector: 'TSEnumDeclaration', message: 'Plain numeric constants, not enum.' },
  { selector: 'ExportAllDeclaration', message: 'Name what you export.' },
];

const deterministic = [
  { selector: "MemberExpression[object.name='Math'][property.name='random']", message: 'Chance is handed in (Prng).' },
  { selector: "MemberExpression[object.name='Date'][property.name='now']", message: 'Time is handed in (VirtualClock).' },
  { selector: "NewExpression[callee.name='Date']", message: 'Time is handed in (VirtualClock).' },
  { selector: "MemberExpression[object.name='performance']", message: 'Time is handed in (VirtualClock).' },
];

export default defineConfig(
  globalIgnores(['**/dist/', '**/.turbo/', 'test/data/']),
  js.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { projectService: { allowDefaultProject: ['*.ts'] }, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/prefer-readonly': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': 'off',
      eqeqeq: 'error',
      'no-restricted-syntax': ['error', ...restrictedSyntax],
    },
  },
  {
    files: ['packages/*/src/**/*.ts'],
    ignores: ['**/*.test.ts', '**/*.bench.ts', '**/contract.ts', '**/testing/**'],
    rules: { 'no-restricted-syntax': ['error', ...restrictedSyntax, ...deterministic] },
  },
  ...Object.entries(arrows).map(([name, allowed]) => ({
    ...importsOf([`packages/${name}/src/**/*.ts`], allowed, name, [noNode]),
    ignores: ['**/*.test.ts', '**/*.bench.ts'],
  })),
  ...Object.entries(arrows).map(([name, allowed]) => importsOf([`packages/${name}/src/**/*.{test,bench}.ts`], allowed, name)),
  importsOf(['apps/*/src/**/*.ts'], appArrows, 'cli'),
  importsOf(['examples/**/*.ts'], exampleArrows, 'examples'),
  importsOf(['examples/plugins/**/*.ts'], pluginArrows, 'plug-ins'),
  {
    files: ['**/*.mjs', '**/*.js'],
    languageOptions: { globals: { process: 'readonly', console: 'readonly', URL: 'readonly', performance: 'readonly' } },
  },
);

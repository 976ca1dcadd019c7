/**
 * Runs in a package after it was built: its modules get numbers for the constants that they import from the workspace, and their
 * classes lose the fields that are declared without a value.
 */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { withConstants } from './constants.mjs';
import { withoutEmptyFields } from './fields.mjs';

const files = readdirSync('dist', { recursive: true }).filter((name) => name.endsWith('.js')).map((name) => resolve('dist', name));
const results = await Promise.all(
  files.map(async (file) => {
    const code = readFileSync(file, 'utf8');
    if (/^export (let|var) /m.test(code)) throw new Error(`${file}: an export that can change is no constant`);
    const { resolve: locate } = createRequire(file);
    const load = (specifier) =>
      specifier.startsWith('@pagelab/') ? import(pathToFileURL(locate(specifier)).href)
      : specifier.startsWith('.') ? import(pathToFileURL(join(file, '..', specifier)).href)
      : null;
    return { file, code, inlined: await withConstants(withoutEmptyFields(code), async (specifier) => load(specifier)) };
  }),
);
for (const { file, code, inlined } of results) if (inlined !== code) writeFileSync(file, inlined);

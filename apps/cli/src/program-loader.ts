/**
 * Loads user programs: TypeScript or JavaScript files anywhere, or examples by name.
 */
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, extname, join, relative, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { Program } from '@pagelab/abi';
import type { KernelModule } from '@pagelab/kernel';
import { build } from 'esbuild';
import type { BuildFailure, Message, Plugin } from 'esbuild';
import { CommandFailure, UsageError } from './errors.ts';

const examplesDirectory = fileURLToPath(new URL('../../../examples', import.meta.url));
const EXTENSIONS = ['.ts', '.mts', '.js', '.mjs'];

/** The names of the examples that come with pagelab. */
export function exampleNames(): string[] {
  if (!existsSync(examplesDirectory)) return [];
  return readdirSync(examplesDirectory)
    .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
    .map((file) => basename(file, '.ts'))
    .sort();
}

/** The names of the examples that are kernel code. */
function moduleNames(): string[] {
  const directory = join(examplesDirectory, 'modules');
  return existsSync(directory) ? readdirSync(directory).map((file) => basename(file, extname(file))).sort() : [];
}

/**
 * Loads kernel code.
 *
 * @param nameOrFile an example's name, or a path from the working directory
 * @throws UsageError where there is no such file; CommandFailure where it does not compile or exports no function
 */
export async function loadKernelModule(nameOrFile: string): Promise<{
  readonly name: string;
  readonly body: (kernel: KernelModule) => unknown;
  readonly machine: unknown;
}> {
  const example = moduleNames().includes(nameOrFile);
  const file = example ? join(examplesDirectory, 'modules', `${nameOrFile}.ts`) : resolve(nameOrFile);
  if (!existsSync(file) || !statSync(file).isFile() || !EXTENSIONS.includes(extname(file))) {
    throw new UsageError(`no module '${nameOrFile}': give a .ts or .js file, or an example (${moduleNames().join(', ')})`);
  }
  const module = await loadModule(file, nameOrFile);
  if (typeof module.default !== 'function') {
    throw new CommandFailure(`${nameOrFile} exports no kernel code: it needs 'export default function (kernel)'`);
  }
  return { name: basename(file, extname(file)), body: module.default as (kernel: KernelModule) => unknown, machine: module.machine };
}

/** A program ready to run. */
export interface LoadedProgram {
  readonly name: string;
  readonly file: string;
  readonly program: Program;
  /** The machine it asks for, where it exports one: a configuration as JSON has it. */
  readonly machine: unknown;
}

function findProgram(nameOrFile: string): string {
  if (exampleNames().includes(nameOrFile)) return join(examplesDirectory, `${nameOrFile}.ts`);
  const file = resolve(nameOrFile);
  if (!existsSync(file)) {
    throw new UsageError(`no program '${nameOrFile}': give a .ts or .js file, or an example (${exampleNames().join(', ')})`);
  }
  if (!statSync(file).isFile() || !EXTENSIONS.includes(extname(file))) {
    throw new UsageError(`'${nameOrFile}' is not a program: give a ${EXTENSIONS.join(', ')} file`);
  }
  return file;
}

/** A program may import pagelab's own packages from wherever it lies, and gets the very modules that run it. */
const ownPackages: Plugin = {
  name: 'own-packages',
  setup(esbuild) {
    esbuild.onResolve({ filter: /^@pagelab\// }, ({ path }) => {
      try {
        return { path: import.meta.resolve(path), external: true };
      } catch {
        return { errors: [{ text: `'${path}' is not a package that programs can import` }] };
      }
    });
  },
};

function describeMessage({ location, text }: Message): string {
  if (!location) return text;
  return `${relative(process.cwd(), resolve(location.file))}:${location.line}:${location.column + 1}: ${text}`;
}

/**
 * Compiles and imports a module of the user's.
 *
 * @param file its absolute path
 * @param name what the user called it, for errors
 * @throws CommandFailure where it does not compile or fails while it is loaded
 */
export async function loadModule(file: string, name: string): Promise<Record<string, unknown>> {
  const directory = mkdtempSync(join(tmpdir(), 'pagelab-'));
  try {
    const outfile = join(directory, 'module.mjs');
    const result = await build({
      entryPoints: [file], outfile, bundle: true, write: false, format: 'esm', platform: 'node', target: 'node20',
      sourcemap: 'inline', logLevel: 'silent', plugins: [ownPackages],
    });
    writeFileSync(outfile, result.outputFiles[0]!.contents);
    return (await import(pathToFileURL(outfile).href)) as Record<string, unknown>;
  } catch (error) {
    const [first] = (error as Partial<BuildFailure>).errors ?? [];
    throw new CommandFailure(first ? describeMessage(first) : `${name} does not load: ${(error as Error).message}`);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/**
 * Loads a program.
 *
 * @param nameOrFile an example's name, or a path from the working directory
 * @throws UsageError where there is no such program; CommandFailure where it does not compile or exports no program
 */
export async function loadProgram(nameOrFile: string): Promise<LoadedProgram> {
  const file = findProgram(nameOrFile);
  const module = await loadModule(file, nameOrFile);
  if (typeof module.default !== 'function') {
    throw new CommandFailure(`${nameOrFile} exports no program: it needs 'export default function (os, ...argv)'`);
  }
  return { name: basename(file, extname(file)), file, program: module.default as Program, machine: module.machine };
}

/**
 * `docs/linux-map.md`: which Linux function each export models, generated from the `@linux` tags of the sources.
 *
 *     tsx tools/docs/linux-map.ts          writes it
 *     tsx tools/docs/linux-map.ts --check  fails where it is not what the sources say
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const root = fileURLToPath(new URL('../..', import.meta.url));
const output = join(root, 'docs', 'linux-map.md');

/** One export, or one member of an exported class, and what it models. */
export interface MapEntry {
  readonly name: string;
  readonly file: string;
  readonly line: number;
  readonly models: string;
}

function isExported(node: ts.Node): boolean {
  return ts.canHaveModifiers(node) && (ts.getModifiers(node) ?? []).some((m) => m.kind === ts.SyntaxKind.ExportKeyword);
}

function nameOf(node: ts.Node): string | undefined {
  if (ts.isVariableStatement(node)) {
    const [declaration] = node.declarationList.declarations;
    return declaration && ts.isIdentifier(declaration.name) ? declaration.name.text : undefined;
  }
  const { name } = node as { name?: ts.Node };
  return name && (ts.isIdentifier(name) || ts.isPrivateIdentifier(name)) ? name.text : undefined;
}

/** The `@linux` tags of one source text. */
export function entriesOf(text: string, file: string): MapEntry[] {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
  const entries: MapEntry[] = [];
  const add = (node: ts.Node, name: string): void => {
    for (const tag of ts.getJSDocTags(node)) {
      if (tag.tagName.text !== 'linux') continue;
      const models = (ts.getTextOfJSDocComment(tag.comment) ?? '').replace(/\s+/g, ' ').trim();
      const { line } = source.getLineAndCharacterOfPosition(node.getStart(source));
      entries.push({ name, file, line: line + 1, models });
    }
  };
  for (const node of source.statements) {
    const name = nameOf(node);
    if (name === undefined || !isExported(node)) continue;
    add(node, name);
    if (!ts.isClassDeclaration(node) && !ts.isInterfaceDeclaration(node)) continue;
    for (const member of node.members) {
      const memberName = nameOf(member);
      if (memberName !== undefined && !memberName.startsWith('#')) add(member, `${name}.${memberName}`);
    }
  }
  return entries;
}

function sourceFiles(): string[] {
  return readdirSync(join(root, 'packages'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts') && !/\.(test|bench|d)\.ts$/.test(entry.name))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .filter((file) => /^packages\/[^/]+\/src\//.test(file))
    .sort();
}

/** The page's text. */
export function linuxMap(): string {
  const lines = [
    '# Linux map',
    '',
    'Which Linux function each export models. Generated from the `@linux` tags of the sources by `npm run docs`; edit those.',
  ];
  let currentPackage = '';
  for (const file of sourceFiles()) {
    const entries = entriesOf(readFileSync(join(root, file), 'utf8'), file);
    if (entries.length === 0) continue;
    const [, packageName] = file.split('/');
    if (packageName !== currentPackage) {
      currentPackage = packageName!;
      lines.push('', `## ${currentPackage}`, '', '| export | Linux |', '| --- | --- |');
    }
    for (const { name, models } of entries) lines.push(`| [\`${name}\`](../${file}) | ${models.replaceAll('|', '\\|')} |`);
  }
  return `${lines.join('\n')}\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const text = linuxMap();
  if (!process.argv.includes('--check')) {
    writeFileSync(output, text);
  } else if (readFileSync(output, 'utf8') !== text) {
    console.error('docs/linux-map.md is not what the sources say: run `npm run docs`');
    process.exitCode = 1;
  }
}

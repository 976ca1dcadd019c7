/** `npm start`: set up, then show what memory does. `npm start -- FILE [ARG…]` runs a program of the user's own. */
import { build, install, root, run } from './workspace.mjs';
import { isAbsolute, join } from 'node:path';

const EXAMPLES = ['demand-paging', 'copy-on-write', 'heap-growth'];
const TRACE = join(root, 'test', 'data', 'traces', 'git-log.trace.gz');

const [file, ...argv] = process.argv.slice(2);
const pagelab = join(root, 'apps', 'cli', 'bin', 'pagelab.js');

install();
build();

/** One command of pagelab's, announced; its failure ends the whole. */
function pagelabCommand(...args) {
  console.log(`\n$ pagelab ${args.map((arg) => arg.replace(root, '')).join(' ')}`);
  const { status } = run(process.execPath, [pagelab, ...args]);
  if (status !== 0) process.exit(status);
}

if (file !== undefined) {
  const base = process.env.INIT_CWD ?? process.cwd();
  pagelabCommand('run', isAbsolute(file) ? file : join(base, file), ...argv);
} else {
  for (const example of EXAMPLES) pagelabCommand('run', example);
  pagelabCommand('replay', TRACE);
}

/**
 * `npm test`: everything that must hold before a change lands. Each step that is one check counts as one; the tests
 * count each for itself. The last line is `N passed, N failed`.
 */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build, install, root, run } from './workspace.mjs';

install();
build();

let passed = 0;
let failed = 0;

/** Runs one check that passes or fails as a whole. */
function check(name, command, args) {
  const started = Date.now();
  const { status, output } = run(command, args, { capture: true });
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  console.log(`${status === 0 ? 'ok  ' : 'FAIL'}  ${name} (${seconds} s)`);
  if (status === 0) {
    passed++;
  } else {
    failed++;
    console.log(output);
  }
}

check('lint and import arrows', 'eslint', ['.', '--max-warnings=0']);
check('types', 'turbo', ['run', 'typecheck', '--output-logs=errors-only', '--ui=stream']);

const report = join(root, 'node_modules', '.vitest-report.json');
rmSync(report, { force: true });
const { status } = run('vitest', ['run', '--reporter=dot', '--reporter=json', `--outputFile.json=${report}`]);
try {
  const results = JSON.parse(readFileSync(report, 'utf8'));
  passed += results.numPassedTests;
  failed += results.numFailedTests;
  // A test file that could not even be loaded counts as one failure.
  const broken = results.testResults.filter((file) => file.status === 'failed' && file.assertionResults.length === 0);
  failed += broken.length;
  if (status !== 0 && results.numFailedTests + broken.length === 0) failed++;
} catch {
  failed++;
}

console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);

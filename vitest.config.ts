import { defineConfig } from 'vitest/config';

export default defineConfig({
  // Packages name their TypeScript under the `source` condition: tests run on what is written, not on what was built.
  resolve: { conditions: ['source'] },
  ssr: { resolve: { conditions: ['source'] } },
  test: {
    include: ['packages/*/src/**/*.test.ts', 'apps/*/src/**/*.test.ts', 'tools/**/*.test.ts', 'examples/**/*.test.ts', 'test/**/*.test.ts'],
    testTimeout: 60_000,
  },
});

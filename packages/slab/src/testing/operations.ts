/// <reference types="node" />
/** Random operations of the contract suites' long test: `PAGELAB_SLAB_OPERATIONS=10000000` for a soak. */
export const OPERATIONS = Number(process.env['PAGELAB_SLAB_OPERATIONS'] ?? 20_000);

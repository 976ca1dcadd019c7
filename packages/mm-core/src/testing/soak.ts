/// <reference types="node" />
/** How many times the steps of the random runs are taken: `PAGELAB_SOAK=30` makes more than a million of each. */
export const SOAK = Number(process.env['PAGELAB_SOAK'] ?? 1);

/**
 * Who may import whom: each package may import those named for it and nothing else of the workspace.
 * `eslint.config.js` turns this table into lint errors; a test compares it with the packages' manifests.
 */
const stack = ['hw', 'mm-core', 'slab', 'vm', 'syscalls', 'kernel'];

/** @type {Record<string, readonly string[]>} package → the packages it may import */
export const arrows = {
  abi: [],
  lib: [],
  ...Object.fromEntries(stack.map((name, level) => [name, ['abi', 'lib', ...stack.slice(0, level)]])),
  'libc-malloc': ['abi', 'lib'],
};

/** What an app sees: the boundary, the public handle, and the allocators that run on the boundary. */
export const appArrows = ['abi', 'kernel', 'libc-malloc'];

/** What an example sees: it is a user program. */
export const exampleArrows = ['abi', 'kernel', 'libc-malloc'];

/** What a plug-in sees: beside that, the layers a part of the kernel stands on, and those it takes part in. */
export const pluginArrows = [...exampleArrows, 'lib', 'hw', 'mm-core', 'slab', 'vm'];

/** The workspace packages that `name` may not import. */
export function forbiddenTo(allowed, own) {
  return [...Object.keys(arrows), 'cli'].filter((other) => other !== own && !allowed.includes(other));
}

/**
 * The named properties of an object, for a test to compare. A cache leads to all of RAM, which a failed comparison of the
 * cache itself would print.
 */
export function pick<T extends object, K extends keyof T>(from: T | number | undefined, ...keys: K[]): Pick<T, K> {
  if (typeof from !== 'object') throw new Error(`no object but ${from}`);
  return Object.fromEntries(keys.map((key) => [key, from[key]])) as Pick<T, K>;
}

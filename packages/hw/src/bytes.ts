/**
 * Byte arrays that come from a program. One may be of a class of the program's own, whose methods would be handed views
 * of RAM: so only the language's own accessors are trusted.
 */

const typedArray = Object.getPrototypeOf(Uint8Array.prototype) as object;

function getter<T>(name: string | symbol): (of: Uint8Array) => T {
  const descriptor = Object.getOwnPropertyDescriptor(typedArray, name);
  return (of) => descriptor?.get?.call(of) as T;
}

const bufferOf = getter<ArrayBuffer>('buffer');
const offsetOf = getter<number>('byteOffset');
const lengthOf = getter<number>('byteLength');
const tagOf = getter<string | undefined>(Symbol.toStringTag);

/**
 * The same bytes as an ordinary byte array.
 *
 * @throws TypeError for what is not a `Uint8Array`
 */
export function plainBytes(bytes: Uint8Array): Uint8Array {
  if (tagOf(bytes) !== 'Uint8Array') throw new TypeError('not a Uint8Array');
  return new Uint8Array(bufferOf(bytes), offsetOf(bytes), lengthOf(bytes));
}

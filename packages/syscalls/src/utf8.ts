/** Text and its bytes. Declared here because the language's own library does not list what Node and browsers share. */
interface Platform {
  readonly TextDecoder: new (label?: string) => { decode(bytes: Uint8Array): string };
  readonly TextEncoder: new () => { encode(text: string): Uint8Array };
}

const { TextDecoder, TextEncoder } = globalThis as unknown as Platform;
const decoder = new TextDecoder();
const encoder = new TextEncoder();

/** Decodes UTF-8, replacing what is not. */
export function decodeUtf8(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

/** Encodes as UTF-8. */
export function encodeUtf8(text: string): Uint8Array {
  return encoder.encode(text);
}

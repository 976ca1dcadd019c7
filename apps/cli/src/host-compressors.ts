/**
 * What the host has to compress a machine's pages with, for zswap.
 */
import * as zlib from 'node:zlib';
import type { Compressor } from '@pagelab/kernel';

/** Fast rather than small, as for swapping. @linux crypto/deflate.c:DEFLATE_DEF_LEVEL */
const deflate: Compressor = {
  name: 'deflate',
  compress: (page) => zlib.deflateRawSync(page, { level: 1 }),
  decompress: (data) => zlib.inflateRawSync(data),
};

/** Of Node from 22.15 on. */
type WithZstd = typeof zlib & { zstdCompressSync(data: Uint8Array): Uint8Array; zstdDecompressSync(data: Uint8Array): Uint8Array };

function zstd(): Compressor[] {
  if (!('zstdCompressSync' in zlib)) return [];
  const host = zlib as WithZstd;
  return [{ name: 'zstd', compress: (page) => host.zstdCompressSync(page), decompress: (data) => host.zstdDecompressSync(data) }];
}

/** The compressors, by the names that Linux has for them; the first is the one used unless told. */
export const hostCompressors: readonly Compressor[] = [deflate, ...zstd()];

import { expect, it } from 'vitest';
import { hostCompressors } from './host-compressors.ts';

it.each(hostCompressors)('$name gives pages back, and makes them smaller where they repeat', (compressor) => {
  for (let period = 1; period <= 4096; period *= 4) {
    const page = Uint8Array.from({ length: 4096 }, (_, i) => Math.imul((i % period) + 1, 0x9e37_79b1) >>> 13);
    const data = compressor.compress(page);
    if (period < 1024) expect(data.length).toBeLessThan(2048);
    expect(Uint8Array.from(compressor.decompress(data))).toEqual(page);
  }
});

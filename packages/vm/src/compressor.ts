/**
 * What compresses pages: a library of the host's behind two functions.
 */

/** A compression algorithm, for pages that are swapped out and stay in memory. @linux include/crypto/acompress.h:crypto_acomp */
export interface Compressor {
  /** As `/sys/module/zswap/parameters/compressor` names it, such as `lzo`. */
  readonly name: string;
  /**
   * @param page 4,096 bytes of the machine's memory, to be read now and not kept
   * @returns what they come to: what takes a page and more is kept as it was
   */
  compress(page: Uint8Array): Uint8Array;
  /**
   * @param data what {@link compress} once returned
   * @returns the 4,096 bytes of the page. May throw where the data is damaged
   */
  decompress(data: Uint8Array): Uint8Array;
}

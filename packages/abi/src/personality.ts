/**
 * What kind of system a program believes to run on, as far as it changes its address space.
 *
 * @linux include/uapi/linux/personality.h
 */

/** Programs are laid out at fixed places. */
export const ADDR_NO_RANDOMIZE = 0x004_0000;
/** The page at address 0 is mapped. */
export const MMAP_PAGE_ZERO = 0x010_0000;
/** Mappings are placed upwards from a third of the range. */
export const ADDR_COMPAT_LAYOUT = 0x020_0000;
/** A program of 32 bits has 3 GiB, under a kernel of 64 too. */
export const ADDR_LIMIT_3GB = 0x800_0000;
/** What may be read may be executed. */
export const READ_IMPLIES_EXEC = 0x040_0000;
/** `personality` with this value tells and changes nothing. */
export const PERSONALITY_QUERY = 0xffff_ffff;

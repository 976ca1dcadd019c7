/**
 * Safe linking: a single-linked list's pointer is stored XORed with its own address shifted right by 12, so that who
 * overwrites it without knowing the address makes a pointer that is not aligned, most likely. XOR works on the two
 * halves of the 64 bits.
 */
import type { UserMemory, VirtAddr } from '@pagelab/abi';

const LOW = 2 ** 32;
const BY_4096 = 2 ** -12;
const HIGH_BY_4096 = 2 ** -44;
const HIGH = 2 ** -32;

/**
 * What is stored at `position` for a link to `pointer`; both are user addresses.
 *
 * @linux glibc malloc/malloc.c:PROTECT_PTR
 */
export function protectPtr(position: VirtAddr, pointer: VirtAddr): number {
  const low = (position * BY_4096) ^ pointer;
  const high = (position * HIGH_BY_4096) ^ (pointer * HIGH);
  return high * LOW + (low >>> 0);
}

/**
 * The pointer that the link stored at `position` stands for. One that no user address can be keeps its low 32 bits and
 * is not canonical: to follow it faults.
 *
 * @linux glibc malloc/malloc.c:REVEAL_PTR
 */
export function revealPtr(mem: UserMemory, position: VirtAddr): VirtAddr {
  const stored = mem.loadAddress(position);
  if (stored < 0 || stored >= 2 ** 47) return revealWild(mem, position);
  const low = (position * BY_4096) ^ stored;
  const high = (position * HIGH_BY_4096) ^ (stored * HIGH);
  return high * LOW + (low >>> 0);
}

function revealWild(mem: UserMemory, position: VirtAddr): VirtAddr {
  return 2 ** 52 + ((mem.load32(position) ^ (position * BY_4096)) >>> 0);
}

/**
 * Sets of nodes as system calls take and give them: bits in words of 64.
 *
 * @linux mm/mempolicy.c
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import { NodeMask } from '@pagelab/mm-core';
import { copyFromUser } from '@pagelab/vm';
import { unsignedAbove } from './registers.ts';
import type { TaskContext } from './task-context.ts';
import { putUser } from './user-access.ts';

/** Nodes that the kernel is built for: of Debian's configuration. @linux include/linux/numa.h:MAX_NUMNODES */
export const MAX_NUMNODES = 1024;
const WORD_BITS = 64;
const MAX_BITS = PAGE_SIZE * 8;

/**
 * Reads a set of nodes. `maxnode` counts one bit more than are looked at.
 *
 * @returns −EINVAL for more bits than a page has, or for a bit beyond all nodes; −EFAULT
 * @linux mm/mempolicy.c:get_nodes
 */
export function getNodes(task: TaskContext, address: number, maxnode: number): NodeMask | number {
  const bits = maxnode - 1;
  if (bits === 0 || address === 0) return new NodeMask([]);
  if (bits < 0 || unsignedAbove(bits, MAX_BITS)) return -Errno.EINVAL;
  const nrWords = Math.ceil(bits / WORD_BITS);
  const words: bigint[] = new Array<bigint>(nrWords).fill(0n);
  // From the end: what lies beyond all nodes has to be empty, and is looked at first.
  for (let i = nrWords - 1; i >= 0; i--) {
    const bytes = copyFromUser(task.mm, address + i * 8, 8);
    if (typeof bytes === 'number') return -Errno.EFAULT;
    const rest = Math.min(WORD_BITS, bits - i * WORD_BITS);
    words[i] = BigInt.asUintN(rest, new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
    if (i * WORD_BITS >= MAX_NUMNODES && words[i] !== 0n) return -Errno.EINVAL;
  }
  const nodes: number[] = [];
  words.forEach((word, i) => {
    for (let bit = 0; bit < WORD_BITS; bit++) if (((word >> BigInt(bit)) & 1n) === 1n) nodes.push(i * WORD_BITS + bit);
  });
  return new NodeMask(nodes);
}

/**
 * Stores a set of nodes in as many words as `maxnode` has room for.
 *
 * @returns 0; −EINVAL for more bits than a page has; −EFAULT
 * @linux mm/mempolicy.c:copy_nodes_to_user
 */
export function putNodes(task: TaskContext, address: number, maxnode: number, { nodes }: NodeMask): number {
  const bytes = Math.ceil((maxnode - 1) / WORD_BITS) * 8;
  const own = Math.ceil(task.vm.pages.nodes.length / WORD_BITS) * 8;
  if (bytes > own && (bytes < 0 || bytes > PAGE_SIZE)) return -Errno.EINVAL;
  const mask = new Uint8Array(bytes);
  for (const nid of nodes) if (nid < bytes * 8) mask[nid >> 3]! |= 1 << (nid & 7);
  return putUser(task, address, mask);
}

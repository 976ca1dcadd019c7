/**
 * Memory policies: on which nodes a task's memory is to lie.
 *
 * @linux include/uapi/linux/mempolicy.h
 */

/** Memory near the CPU that asks. */
export const MPOL_DEFAULT = 0;
/** One node first, others where that has none left. */
export const MPOL_PREFERRED = 1;
/** These nodes and no others. */
export const MPOL_BIND = 2;
/** These nodes in turn, a page each. */
export const MPOL_INTERLEAVE = 3;
/** Memory near the CPU that asks, whatever the task's policy is. */
export const MPOL_LOCAL = 4;
/** These nodes first, others where they have none left. */
export const MPOL_PREFERRED_MANY = 5;
/** These nodes in turn, each as many pages as its weight. */
export const MPOL_WEIGHTED_INTERLEAVE = 6;

// Beside the mode, in the same argument.
/** Nodes are meant as they are numbered, whatever the task may use. */
export const MPOL_F_STATIC_NODES = 1 << 15;
/** Nodes are numbered within those that the task may use. */
export const MPOL_F_RELATIVE_NODES = 1 << 14;
/** With MPOL_BIND: pages move among the nodes to where they are used. */
export const MPOL_F_NUMA_BALANCING = 1 << 13;

// Flags of get_mempolicy.
/** The next node, or the node of the page, in place of the mode. */
export const MPOL_F_NODE = 1;
/** Of the mapping at an address. */
export const MPOL_F_ADDR = 2;
/** The nodes that the task may use. */
export const MPOL_F_MEMS_ALLOWED = 4;

// Flags of mbind and move_pages.
/** It is an error where pages do not lie as they should. */
export const MPOL_MF_STRICT = 1;
/** Moves pages that no other process has. */
export const MPOL_MF_MOVE = 2;
/** Moves all pages. */
export const MPOL_MF_MOVE_ALL = 4;

/**
 * Who allocated and who freed an object: `struct track`, of which an object of a cache with SLAB_STORE_USER has two.
 *
 *     64 bits   byte 0  address of the call     8  stack, unused     12 CPU     16 process     24 when, in jiffies
 *     32 bits        0                          4                     8         12             16
 */
import type { VirtAddr } from '@pagelab/abi';
import type { DirectMap } from './direct-map.ts';

/** Bytes of a `struct track`. */
export function trackBytes(wordBytes: 4 | 8): number {
  return wordBytes === 8 ? 32 : 20;
}

/** Nanoseconds of a jiffy: HZ is 250. */
const JIFFY_NS = 4e6;
/** Where the kernel's code begins; calls get addresses from here on. @linux arch/x86/include/asm/page_64_types.h:__START_KERNEL_map */
const KERNEL_TEXT = -0x7f00_0000;
/** Of 32 bits that is in the direct map: bytes from its beginning. @linux arch/x86/Kconfig:PHYSICAL_START */
const KERNEL_TEXT_32 = 0x100_0000;
/** Bytes between the addresses of two calls. */
const CALL_BYTES = 16;

/** Who did something to an object, and when. @linux mm/slub.c:track */
export interface SlabTrack {
  /** Name of the function that called the slab layer. */
  readonly call: string;
  readonly cpu: number;
  /** 0 where no process runs. */
  readonly pid: number;
  /** In jiffies of 4 ms since boot. */
  readonly when: number;
}

/** What tracking needs to know of the machine: each is optional, and 0 or unknown without. */
export interface SlabContext {
  /** Nanoseconds of virtual time. */
  readonly clock?: { readonly now: number };
  /** Id of the running process, 0 for none. */
  readonly pid?: () => number;
  /** Name of the function that calls the slab layer; where it is undefined it is taken from the host's call stack. */
  readonly caller?: () => string | undefined;
}

/** Names of the slab layer's own classes and functions in a call stack. */
const OWN_FRAME = /^(?:new )?(?:CallTable|Tracking|Slub|Classic|Slab|Slob|Kmem|Cache|KmemCache|HardenedSlub|SlubDebug)\w*\./;

/** The function that called the slab layer, by the host's call stack. Cost: some microseconds. */
function callerFromStack(): string {
  const { stack = '' } = new Error();
  for (const line of stack.split('\n')) {
    // "    at Class.method [as other] (place)", "    at place", "method@place".
    const name = /^\s*at (?:async )?((?:new )?[^\s(]+)(?: \[as [^\]]+\])? \(/.exec(line)?.[1] ?? /^([^@\s]+)@/.exec(line)?.[1];
    if (name === undefined || OWN_FRAME.test(name) || name === 'callerFromStack') continue;
    const last = name.slice(name.lastIndexOf('.') + 1);
    return last.startsWith('<') ? 'anonymous' : last;
  }
  return 'anonymous';
}

/** Time, process and calls, for tracks. */
export class Tracking {
  private readonly context: SlabContext;
  private readonly smp: { readonly processorId: number };
  private readonly memory: DirectMap;
  private readonly kernelText: VirtAddr;
  /** Names of calls; a call's address is its place in here. */
  private readonly calls: string[] = [];
  private readonly places = new Map<string, number>();

  constructor(context: SlabContext, smp: { readonly processorId: number }, memory: DirectMap) {
    this.context = context;
    this.smp = smp;
    this.memory = memory;
    this.kernelText = memory.wordBytes === 8 ? KERNEL_TEXT : memory.pageOffset + KERNEL_TEXT_32;
  }

  /** Jiffies since boot. */
  get jiffies(): number {
    return Math.floor((this.context.clock?.now ?? 0) / JIFFY_NS);
  }

  /** An address that stands for the function that calls the slab layer now; {@link callName} has its name. */
  callAddress(): VirtAddr {
    return this.addressOf(this.context.caller?.() ?? callerFromStack());
  }

  /** The function that an address stands for. */
  callName(address: VirtAddr): string | undefined {
    return this.calls[(address - this.kernelText) / CALL_BYTES];
  }

  /** Writes who does it now. @linux mm/slub.c:set_track_update */
  set(track: VirtAddr): void {
    const { memory, context } = this;
    const { wordBytes } = memory;
    memory.setPointer(track, this.callAddress());
    memory.setWord(track + wordBytes, 0);
    memory.setWord(track + wordBytes + 4, this.smp.processorId);
    memory.setWord(track + wordBytes + 8, context.pid?.() ?? 0);
    memory.setPointer(track + trackBytes(wordBytes) - wordBytes, this.jiffies);
  }

  /** Reads a track; `undefined` where nobody did it, or what is there is none. @linux mm/slub.c:get_track */
  get(track: VirtAddr): SlabTrack | undefined {
    const { memory } = this;
    const { wordBytes } = memory;
    const call = this.callName(memory.pointer(track));
    if (call === undefined) return undefined;
    const when = memory.pointer(track + trackBytes(wordBytes) - wordBytes);
    return { call, cpu: memory.word(track + wordBytes + 4), pid: memory.word(track + wordBytes + 8), when };
  }

  /** As the log has it. @linux mm/slub.c:print_track */
  text(what: 'Allocated' | 'Freed', track: SlabTrack): string {
    return `${what} in ${track.call} age=${this.jiffies - track.when} cpu=${track.cpu} pid=${track.pid}`;
  }

  private addressOf(call: string): VirtAddr {
    let place = this.places.get(call);
    if (place === undefined) {
      place = this.calls.push(call) - 1;
      this.places.set(call, place);
    }
    return this.kernelText + place * CALL_BYTES;
  }
}

import type { Kernel } from '../kernel.ts';

/** `/sys/kernel/debug/percpu_stats`: how per-CPU memory is laid out, and counts since boot. @linux mm/percpu-stats.c:percpu_stats_show */
export function percpuStats({ percpu }: Kernel): string {
  const { info, stats, chunks } = percpu;
  const rule = '-'.repeat(40);
  let text = 'Percpu Memory Statistics\nAllocation Info:\n';
  const line = (name: string, value: number): void => {
    text += `  ${name.padEnd(20)}: ${String(value).padStart(12)}\n`;
  };
  text += `${rule}\n`;
  line('unit_size', info.unitSize);
  line('static_size', info.staticSize);
  line('reserved_size', info.reservedSize);
  line('dyn_size', info.dynSize);
  line('atom_size', info.atomSize);
  line('alloc_size', info.allocSize);
  text += `\nGlobal Stats:\n${rule}\n`;
  line('nr_alloc', stats.nrAlloc);
  line('nr_dealloc', stats.nrDealloc);
  line('nr_cur_alloc', stats.nrCurAlloc);
  line('nr_max_alloc', stats.nrMaxAlloc);
  line('nr_chunks', stats.nrChunks);
  line('nr_max_chunks', stats.nrMaxChunks);
  line('min_alloc_size', stats.minAllocSize);
  line('max_alloc_size', stats.maxAllocSize);
  text += `\nPer Chunk Stats:\n${rule}\n`;
  for (const chunk of chunks) {
    text += chunk.isFirst ? 'Chunk: <- First Chunk\n' : 'Chunk:\n';
    line('nr_alloc', chunk.nrAlloc);
    line('max_alloc_size', chunk.maxAllocSize);
    line('free_bytes', chunk.freeBytes);
    line('contig_bytes', chunk.contigBytes);
    const sizes = chunk.areas().map(({ size }) => size).sort((a, b) => a - b);
    line('cur_min_alloc', sizes[0] ?? 0);
    line('cur_med_alloc', sizes[sizes.length >> 1] ?? 0);
    line('cur_max_alloc', sizes.at(-1) ?? 0);
    text += '\n';
  }
  return text;
}
